//! Words beside a dotted quad or a name that say what it is, in English, Portuguese, Spanish, French, German and Russian, and in
//! scripts without spaces.

/// What the words before a quad say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sense {
    Address,
    Version,
    /// A version if its parts are small.
    MaybeVersion,
    /// Nothing; the adjoining word may be a name.
    Unknown {
        named: bool,
    },
}

/// How the quad hangs on the word in question.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Direct,
    Is,
    In,
    At,
    To,
    From,
}

/// Words, or beginnings of words, for what carries a version; English, Portuguese, Spanish, French, German, Russian.
const VERSION_STEMS: [&str; 62] = [
    "version",
    "versão",
    "versao",
    "versõe",
    "versoe",
    "versión",
    "верси",
    "firmware",
    "build",
    "release",
    "revision",
    "revisão",
    "updat",
    "upgrad",
    "downgrad",
    "patch",
    "hotfix",
    "driver",
    "fixed",
    "fixes",
    "corrig",
    "corregi",
    "correc",
    "atualiz",
    "actualiz",
    "actualis",
    "aktualisier",
    "behoben",
    "обнов",
    "plugin",
    "plug-in",
    "package",
    "pacote",
    "paquet",
    "librar",
    "bibliote",
    "kernel",
    "section",
    "seção",
    "secao",
    "sección",
    "abschnitt",
    "clause",
    "cláusula",
    "chapter",
    "capítulo",
    "kapitel",
    "table",
    "tabela",
    "tabla",
    "figure",
    "appendix",
    "annex",
    "paragraph",
    "parágrafo",
    "artigo",
    "telefon",
    "phone",
    "lançad",
    "lanzad",
    "rollback",
    "sdk",
];

/// Whole words of the same sort.
const VERSION_WORDS: [&str; 17] = [
    "v", "ver", "vers", "rev", "api", "oid", "rfc", "tel", "fax", "rc", "tag", "item", "step",
    "art", "sec", "§", "ed",
];

/// What stands before a version and never before an address.
pub(super) const BOUNDS: [&str; 27] = [
    "before",
    "after",
    "through",
    "until",
    "till",
    "below",
    "above",
    "prior",
    "than",
    "since",
    "starting",
    "earlier",
    "later",
    "until",
    "up",
    "até",
    "antes",
    "desde",
    "anterior",
    "anteriores",
    "posterior",
    "posteriores",
    "hasta",
    "avant",
    "depuis",
    "vor",
    "bis",
];

/// Nouns for hosts and their addresses, and how they are placed: directly before, or with "at", "on", "is".
const HOST_STEMS: [&str; 47] = [
    "block",
    "bloque",
    "address",
    "endereç",
    "enderec",
    "direcci",
    "adress",
    "indirizz",
    "адрес",
    "server",
    "servidor",
    "serveur",
    "сервер",
    "nameserver",
    "resolver",
    "host",
    "hosped",
    "aloja",
    "gateway",
    "subnet",
    "sub-rede",
    "netblock",
    "geoloc",
    "located",
    "localizad",
    "listen",
    "escut",
    "sinkhol",
    "blocklist",
    "blacklist",
    "infraestrut",
    "infrastruct",
    "panel",
    "painel",
    "machine",
    "máquina",
    "indicator",
    "indicador",
    "beacon",
    "callback",
    "proxy",
    "proxies",
    "relay",
    "botnet",
    "peer",
    "node",
    "exfiltrat",
];

/// Whole words of the same sort.
const HOST_WORDS: [&str; 38] = [
    "control",
    "nc",
    "netcat",
    "port",
    "record",
    "ip",
    "ips",
    "ipv4",
    "dns",
    "c2",
    "c2s",
    "c&c",
    "cnc",
    "c2c",
    "ioc",
    "iocs",
    "src",
    "dst",
    "ssh",
    "rdp",
    "telnet",
    "curl",
    "wget",
    "ping",
    "pings",
    "pinged",
    "nslookup",
    "dig",
    "whois",
    "nmap",
    "traceroute",
    "tcp",
    "udp",
    "socks5",
    "socks",
    "vps",
    "mail",
    "ptr",
];

/// What names an address with a colon behind it.
pub(super) const LABELS: [&str; 13] = [
    "source",
    "destination",
    "origin",
    "origem",
    "destino",
    "client",
    "cliente",
    "remoteaddr",
    "attacker",
    "atacante",
    "x-forwarded-for",
    "virustotal",
    "shodan",
];

/// Verbs and nouns that lead to an address with "to", "with", "para".
pub(super) const TO_STEMS: [&str; 42] = [
    "reach",
    "telnet",
    "connect",
    "conect",
    "conex",
    "conexã",
    "contact",
    "contat",
    "contac",
    "communicat",
    "comunic",
    "beacon",
    "callback",
    "call",
    "talk",
    "resolv",
    "send",
    "sent",
    "envia",
    "envi",
    "exfiltr",
    "redirec",
    "point",
    "apont",
    "apunta",
    "request",
    "requisi",
    "traffic",
    "tráfego",
    "trafego",
    "tráfico",
    "upload",
    "tunnel",
    "phone",
    "ping",
    "ssh",
    "shell",
    "post",
    "forward",
    "queries",
    "handshake",
    "c2",
];

/// The same with "from", "by", "via".
pub(super) const FROM_STEMS: [&str; 34] = [
    "download",
    "baix",
    "descarg",
    "télécharg",
    "traffic",
    "tráfego",
    "trafego",
    "tráfico",
    "request",
    "requisi",
    "connect",
    "conect",
    "conex",
    "login",
    "logon",
    "logged",
    "scan",
    "varredur",
    "escane",
    "attack",
    "ataque",
    "ataqu",
    "session",
    "probe",
    "originat",
    "observed",
    "seen",
    "coming",
    "came",
    "fetch",
    "retriev",
    "served",
    "brute",
    "host",
];

/// Words that link without a meaning of their own.
pub(super) fn link(word: &str) -> Option<Link> {
    Some(match word {
        "the" | "an" | "se" | "o" | "os" | "as" | "um" | "uma" | "el" | "la" | "las" | "los"
        | "le" | "les" | "der" | "die" | "das" | "den" | "dem" | "their" | "its" | "this"
        | "that" | "these" | "those" | "our" | "seu" | "sua" | "following" | "malicious"
        | "suspicious" | "remote" | "external" | "public" | "same" | "known" | "single"
        | "malicioso" | "maliciosa" | "seguinte" | "siguiente" | "remoto" | "remota"
        | "externo" | "público" | "número" | "number" | "no." | "nº" | "both" | "only" | "also"
        | "either" | "back" | "home" | "out" | "directly" | "used" | "using" | "uses" | "like"
        | "named" | "namely" | "s" | "such" | "include" | "includes" | "including" | "incluem"
        | "inclui" | "e.g" | "i.e" | "and" | "or" | "e" | "y" | "ou" | "und" | "et" => Link::Direct,
        "is" | "are" | "was" | "were" | "be" | "being" | "of" | "é" | "são" | "foi" | "es"
        | "son" | "fue" | "est" | "ist" | "como" => Link::Is,
        "in" | "em" | "na" | "no" | "nas" | "nos" | "en" | "dans" | "im" | "within" => Link::In,
        "at" | "on" | "onto" | "behind" | "under" | "auf" | "sur" | "sob" => Link::At,
        "to" | "a" | "into" | "with" | "para" | "ao" | "à" | "com" | "con" | "against"
        | "toward" | "towards" | "hacia" | "al" | "zu" | "mit" | "vers" | "avec" | "contra"
        | "por" => Link::To,
        "from" | "de" | "do" | "da" | "del" | "desde" | "von" | "by" | "via" | "pelo" | "pela"
        | "du" | "des" => Link::From,
        _ => return None,
    })
}

pub(super) fn is_stem(stems: &[&str], word: &str) -> bool {
    stems.iter().any(|stem| word.starts_with(stem))
}

pub(super) fn is_version_word(word: &str) -> bool {
    VERSION_WORDS.contains(&word) || is_stem(&VERSION_STEMS, word)
}

pub(super) fn is_host_word(word: &str) -> bool {
    HOST_WORDS.contains(&word) || is_stem(&HOST_STEMS, word)
}

/// Whether a word before a name says that it is one of a host.
pub(super) fn says_host(word: &str, linked_from: bool) -> bool {
    const MORE: [&str; 14] = [
        "domain", "domín", "domin", "site", "website", "url", "subdom", "registr", "phish",
        "visit", "tld", "link", "resolv", "page",
    ];
    is_host_word(word)
        || is_stem(&MORE, word)
        || is_stem(&TO_STEMS, word)
        || (linked_from && is_stem(&FROM_STEMS, word))
}

/// Whether a word carries no meaning of its own, and whether it is one of origin ("from").
pub(super) fn is_link(word: &str) -> Option<bool> {
    link(word).map(|link| link == Link::From)
}

/// A word without the marks around it, in lower case.
pub(super) fn bare(word: &str) -> String {
    word.trim_matches(|letter: char| {
        letter.is_ascii_punctuation() && !matches!(letter, '&' | '§')
            || matches!(letter, '\u{2018}'..='\u{201f}' | '«' | '»' | '\u{2013}' | '\u{2014}')
    })
    .to_lowercase()
}

/// What a run of a script without spaces says.
pub(super) fn wide_sense(word: &str) -> Sense {
    const VERSION: [&str; 7] = ["版本", "版", "バージョン", "버전", "升级", "更新", "修复"];
    const ADDRESS: [&str; 14] = [
        "从",
        "地址",
        "位址",
        "服务器",
        "伺服器",
        "主机",
        "连接",
        "連接",
        "サーバ",
        "アドレス",
        "接続",
        "주소",
        "서버",
        "IP",
    ];
    let last = |list: &[&str]| list.iter().filter_map(|part| word.rfind(part)).max();
    match (last(&VERSION), last(&ADDRESS)) {
        (Some(version), address) if address.is_none_or(|address| address < version) => {
            Sense::Version
        }
        (_, Some(_)) => Sense::Address,
        _ => Sense::Unknown { named: false },
    }
}
