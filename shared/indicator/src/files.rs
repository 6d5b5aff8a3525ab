//! Names that may be a host's or a file's: `setup.zip`, `main.rs`, `run.sh`.

/// What a name with a dot looks like when nothing around it says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likeness {
    /// A host: its ending names no kind of file, or it has more parts than a file's name.
    Host,
    /// A host in a report, unless the words around it speak of a file.
    MostlyHost,
    /// A file, unless the words around it speak of a host.
    MostlyFile,
}

/// Top levels that reports know as endings of files.
const FILE_ENDINGS: [&str; 17] = [
    "zip",
    "mov",
    "sh",
    "md",
    "py",
    "ps",
    "cab",
    "lib",
    "mk",
    "mm",
    "mobi",
    "cat",
    "properties",
    "pub",
    "tf",
    "bar",
    "bz",
];

/// Top levels that are endings of files too, with many registered names.
const HOST_ENDINGS: [&str; 8] = ["pl", "rs", "cc", "so", "ml", "app", "pm", "st"];

/// Endings before an ending: `invoice.pdf.zip`, `libc.so.md`.
const INNER_ENDINGS: [&str; 33] = [
    "bat", "bin", "conf", "csv", "dat", "dll", "doc", "docx", "elf", "exe", "gif", "gz", "html",
    "inc", "iso", "jpeg", "jpg", "js", "json", "lnk", "min", "msi", "pdf", "php", "png", "ps1",
    "rtf", "tar", "txt", "vbs", "x86", "xls", "xlsx",
];

/// First parts that files have, without digits at their end.
const STEMS: [&str; 88] = [
    "a",
    "agent",
    "api",
    "app",
    "archive",
    "attachment",
    "b",
    "backdoor",
    "backup",
    "beacon",
    "bot",
    "build",
    "changelog",
    "clean",
    "cleanup",
    "client",
    "cmd",
    "config",
    "configure",
    "contract",
    "core",
    "cron",
    "cv",
    "data",
    "decrypt",
    "decryptor",
    "deploy",
    "doc",
    "document",
    "documents",
    "downloader",
    "dropper",
    "encrypt",
    "encryptor",
    "exploit",
    "file",
    "files",
    "helper",
    "helpers",
    "image",
    "img",
    "implant",
    "index",
    "init",
    "install",
    "installer",
    "invoice",
    "job",
    "keylogger",
    "kill",
    "launcher",
    "lib",
    "libc",
    "license",
    "loader",
    "main",
    "malware",
    "miner",
    "mod",
    "module",
    "note",
    "order",
    "payload",
    "photo",
    "poc",
    "ransom",
    "rat",
    "readme",
    "report",
    "resume",
    "run",
    "runner",
    "sample",
    "scan",
    "scanner",
    "script",
    "setup",
    "shell",
    "stage",
    "stager",
    "start",
    "statement",
    "stealer",
    "test",
    "tests",
    "update",
    "utils",
    "x",
];

/// Judges a name in lower case.
pub(super) fn likeness(name: &str) -> Likeness {
    let Some((stem, ending)) = name.rsplit_once('.') else { return Likeness::Host };
    let (is_file, is_host) = (FILE_ENDINGS.contains(&ending), HOST_ENDINGS.contains(&ending));
    if !is_file && !is_host {
        return Likeness::Host;
    }
    match stem.rsplit_once('.') {
        Some((_, inner)) if INNER_ENDINGS.contains(&inner) => Likeness::MostlyFile,
        Some(_) => Likeness::Host,
        None if is_file => Likeness::MostlyFile,
        None => {
            let plain =
                stem.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '_');
            let last = plain.rsplit(['_', '-']).next().unwrap_or(plain);
            let is_typical = STEMS.contains(&plain)
                || (last.len() > 1 && STEMS.contains(&last))
                || stem.contains('_')
                || (ending == "so" && stem.starts_with("lib"));
            if is_typical { Likeness::MostlyFile } else { Likeness::MostlyHost }
        }
    }
}

/// Whether a word beside a name says that it is one of a file.
pub(super) fn says_file(word: &str) -> bool {
    const STEMS: [&str; 38] = [
        "file", "ficheir", "arquiv", "archiv", "script", "attach", "anex", "named", "called",
        "chamad", "nomead", "llamad", "execut", "running", "launch", "lanç", "extract", "extra",
        "unpack", "unzip", "python", "perl", "bash", "chmod", "module", "módulo", "document",
        "librar", "save", "writ", "drop", "open", "install", "binar", "sample", "folder",
        "director", "payload",
    ];
    matches!(word, "run" | "runs" | "ran" | "sh" | "source" | "rust" | "go")
        || STEMS.iter().any(|stem| word.starts_with(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_files_from_hosts() {
        for name in [
            "readme.md",
            "run.sh",
            "setup.zip",
            "main.rs",
            "invoice.mov",
            "a.py",
            "app.pl",
            "script.ps",
            "stage2.pl",
            "report.pdf.zip",
            "libfoo.lib",
            "my_tool.rs",
            "linux-installer.sh",
            "data.cab",
            "x.so",
            "libfoo.so",
        ] {
            assert_eq!(likeness(name), Likeness::MostlyFile, "{name}");
        }
        for name in ["onet.pl", "evil.rs", "bad.cc", "notion.so"] {
            assert_eq!(likeness(name), Likeness::MostlyHost, "{name}");
        }
        for name in ["evil.com", "cdn.evil.sh", "www.main.rs", "payload.example.com"] {
            assert_eq!(likeness(name), Likeness::Host, "{name}");
        }
    }
}
