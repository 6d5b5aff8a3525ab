//! Splitting on rules made to mislead: comments, strings, broken neighbours, bytes that are no text.

use proptest::prelude::*;

use super::*;

fn names(text: &[u8]) -> Vec<String> {
    split(text).rules.into_iter().map(|rule| rule.name).collect()
}

#[test]
fn a_rule_in_a_comment_is_none_and_braces_in_strings_end_nothing() {
    let text = br#"
/* rule dead { condition: true } */
// rule dead_too { condition: true }
private global rule Alive : A B {
    meta:
        a = "x" a = 3 a = true b = "q\"}\"" c = -1
    strings:
        $a = "} // not a comment /* nor this" // } a comment
        $b = { 6A 40 [0-4] /* } */ 7A }
        $c = /[{}"]\/\}/ nocase
    condition:
        any of them
}
import "pe" 
rule Next { condition: pe.number_of_sections == 1 and Alive }"#;
    let split = split(text);
    assert_eq!(split.rejects, []);
    assert_eq!(split.imports, ["pe"]);
    let [alive, next] = split.rules.as_slice() else { panic!("{:?}", split.rules) };
    assert_eq!(alive.modifiers, ["private", "global"]);
    assert_eq!(alive.tags, ["A", "B"]);
    assert_eq!(alive.strings, 3);
    assert_eq!((alive.line, alive.end_line), (4, 13));
    assert!(alive.text.starts_with("private global rule") && alive.text.ends_with("them\n}"));
    let text = |text: &str| Meta::Text(text.to_owned());
    let expected = [
        ("a", text("x")),
        ("a", Meta::Integer(3)),
        ("a", Meta::Bool(true)),
        ("b", text("q\"}\"")),
        ("c", Meta::Integer(-1)),
    ];
    assert_eq!(alive.meta, expected.map(|(key, value)| (key.to_owned(), value)));
    let mut known = KnownRules::default();
    known.add("f", "Alive");
    known.add("f", "Next");
    let needs = known.needs("f", next);
    assert_eq!((needs.rules, needs.modules), (vec!["Alive".to_owned()], vec!["pe".to_owned()]));
}

#[test]
fn a_broken_rule_costs_itself_and_names_its_line() {
    for broken in [
        "rule Broken { strings: $a = \"unclosed\n condition: $a }",
        "rule Broken { condition: }",
        "rule Broken { condition: true",
        "rule Broken { strings: $a = { ZZ } condition: $a }",
        "rule Broken { meta: a = condition: true }",
        "rule Broken { condition: 99999999999999999999 == 1 }",
        "rule Broken : { condition: true }",
    ] {
        let text =
            format!("rule One {{ condition: true }}\n\n{broken}\nrule Two {{ condition: true }}\n");
        let split = split(text.as_bytes());
        let kept: Vec<_> = split.rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(kept, ["One", "Two"], "`{broken}`: {:?}", split.rejects);
        let [reject] = split.rejects.as_slice() else { panic!("`{broken}`: {:?}", split.rejects) };
        assert_eq!((reject.name.as_deref(), reject.line), (Some("Broken"), 3), "`{broken}`");
        assert!(reject.reason.contains("line "), "{}", reject.reason);
    }
}

#[test]
fn a_file_that_is_cut_off_is_one_reject() {
    for end in ["", " ", "\n\n"] {
        let text = format!("rule One {{ condition: true }}\nrule Cut {{ condition: true or{end}");
        let split = split(text.as_bytes());
        assert_eq!(split.rules.len(), 1, "{:?}", split.rejects);
        let [reject] = split.rejects.as_slice() else { panic!("{end:?}: {:?}", split.rejects) };
        assert_eq!((reject.name.as_deref(), reject.line), (Some("Cut"), 2), "{end:?}");
        assert!(reject.reason.contains("end of file"), "{}", reject.reason);
    }
}

#[test]
fn what_is_no_rule_is_a_reject_between_rules() {
    let split =
        split(b"<html>\nrule One { condition: true }\n}}} oops\nrule Two { condition: true }");
    assert_eq!(split.rules.len(), 2, "{:?}", split.rejects);
    assert_eq!(split.rejects.iter().map(|reject| reject.line).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn bytes_that_are_no_text_survive() {
    let text = b"\xef\xbb\xbf// Caf\xe9\r\nrule Caf\xc3\xa9 { condition: true }\r\n\
        rule Wide {\r\n strings: $a = \"\xc3\xa9\"\r\n condition: $a }\r\n\
        rule Odd {\r\n strings: $a = \"\xe9\xff\"\r\n condition: $a }";
    let split = split(text);
    let [wide, odd] = split.rules.as_slice() else { panic!("{:?}", split.rules) };
    assert_eq!(wide.text, "rule Wide {\r\n strings: $a = \"é\"\r\n condition: $a }");
    assert_eq!((wide.line, wide.end_line, wide.is_latin1), (3, 5, false));
    assert!(odd.is_latin1);
    assert_eq!(odd.bytes(), b"rule Odd {\r\n strings: $a = \"\xe9\xff\"\r\n condition: $a }");
    assert!(!split.rejects.is_empty(), "a name with an accent is none");
}

#[test]
fn deep_and_long_rules_are_survived() {
    let deep = format!(
        "rule D {{ condition: {}true{} }}\nrule N {{ condition: true }}",
        "(".repeat(20_000),
        ")".repeat(20_000)
    );
    assert_eq!(names(deep.as_bytes()), ["N"]);
    let nested =
        format!("rule D {{ condition: {}true }} rule N {{ condition: true }}", "not ".repeat(300));
    assert_eq!(names(nested.as_bytes()), ["D", "N"]);
    let wide = format!("rule W {{ condition: {} }}", vec!["true"; 15_000].join(" or "));
    assert_eq!(names(wide.as_bytes()), ["W"]);
    let long = format!("rule L {{ condition: true /*{}*/ }}", " ".repeat(RULE_BYTES_MAX));
    assert!(split(long.as_bytes()).rejects[0].reason.contains("bytes"));
}

/// Runs on a thread with so much stack; what overflows it ends the test's process.
fn on_stack<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(bytes).spawn_scoped(scope, work);
        thread.unwrap().join().unwrap()
    })
}

#[test]
fn the_highest_trees_fit_their_stacks_many_times() {
    let rule = |piece: &str, count: usize| {
        format!("rule A {{ strings: $a = \"abcd\" condition: {}1 }}", piece.repeat(count))
    };
    let height = |text: &str| {
        let mut heights = Vec::new();
        scan::statements(text, |statement| heights.push(statement.height));
        heights[0]
    };
    for piece in [
        "1+",
        "1-",
        "1*2-",
        "1%1\\",
        "1|2&",
        "1<<",
        "1==",
        "#a+#a-",
        "not ",
        "-",
        "~",
        "defined ",
        "(",
        "1+(1-",
        "uint8(",
        "a[1].",
        "a(1).",
        "for any i in (0..1) : (",
        "for any of them : (",
        "with a = 1 : (",
        "1 in ",
    ] {
        let count = (1..=HEIGHT_MAX).rev().find(|count| height(&rule(piece, *count)) <= HEIGHT_MAX);
        let count = count.unwrap();
        // What is closed is as high as what is not.
        let brackets = piece.matches(['(']).count() - piece.matches([')']).count();
        let text = rule(piece, count);
        let text = format!("{}{} }}", &text[..text.len() - 1], ")".repeat(brackets * count));
        assert!(height(&text) <= HEIGHT_MAX && count > HEIGHT_MAX / 8, "{piece}: {count}");
        // A worker of the async runtime has two megabytes.
        on_stack(1 << 20, || split(text.as_bytes()));
        let unit = verdict::Unit::new([], [], &text, Vec::new());
        on_stack(apart::STACK_BYTES / 8, || unit.check());
        let higher = rule(piece, 50_000);
        assert!(height(&higher) > HEIGHT_MAX, "{piece}");
        assert!(split(higher.as_bytes()).rules.is_empty(), "{piece}");
    }
}

#[test]
fn calls_in_calls_have_a_limit() {
    let nested = |open: &str, depth: usize, close: &str| {
        format!("rule r {{ condition: {}1{} == 1 }}", open.repeat(depth), close.repeat(depth))
    };
    assert_eq!(split(nested("uint8(", CALLS_MAX, ")").as_bytes()).rules.len(), 1);
    // Brackets that are no calls do not count.
    assert_eq!(split(nested("(", 40, ")").as_bytes()).rules.len(), 1);
    let loops = "rule r { condition: ".to_owned()
        + &"for any i in (0..1) : (".repeat(9)
        + &format!("i == 1{} }}", ")".repeat(9));
    assert_eq!(split(loops.as_bytes()).rules.len(), 1);
    for (open, close) in [("uint8(", ")"), ("pe.f(", ", 2)"), ("a(b(", "))"), ("a /* c */ (", "")] {
        let split = split(nested(open, 30, close).as_bytes());
        assert!(split.rules.is_empty() && split.rejects.len() == 1, "{open}");
        assert!(split.rejects[0].reason.contains("calls stand"), "{}", split.rejects[0].reason);
    }
}

#[test]
fn statements_end_where_they_end() {
    let text = "import \"pe\" // rule x {\nprivate rule A : t { strings: $a = /}\\/{/ $b = { 4? /* } */ } $c = \"}\\\"\" \
        condition: $a } include \"x\" oops global rule B { condition: true private rule C { condition: \"\"\"\n}\"\"\" == 1 }";
    let mut found = Vec::new();
    scan::statements(text, |statement| {
        let name = statement.name.map(|name| &text[name]);
        let own = &text[statement.range];
        found.push((name, &own[..own.len().min(12)], &own[own.len() - 1..]));
    });
    let expected = [
        (None, "import \"pe\"", "\""),
        (Some("A"), "private rule", "}"),
        (None, "include \"x\"", "\""),
        (None, "oops", "s"),
        (Some("B"), "global rule ", "e"),
        (Some("C"), "private rule", "}"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_variable_of_the_scanner_is_told_from_a_rule() {
    let split = split(
        b"rule A { condition: filename matches /x/ or (for any i in (1..2) : (i == 2)) or size_kb > 3 or Other or is_it }",
    );
    let mut known = KnownRules::default();
    known.add("f", "A");
    known.add("g", "Other");
    let needs = known.needs("f", &split.rules[0]);
    assert_eq!(needs.rules, ["Other"]);
    let expected =
        [("filename", Meaning::Text), ("size_kb", Meaning::Integer), ("is_it", Meaning::Bool)];
    assert_eq!(needs.variables, expected.map(|(name, meaning)| (name.to_owned(), meaning)));
}

#[test]
fn meta_is_read_as_analysts_ask_for_it() {
    let split = split(
        br#"rule A { meta:
            author = "Florian Roth (Nextron Systems), Jane Doe & J. Roe (A, B and C)" author = "Jane Doe"
            date = "14.07.15" score = "70" license = "X" tlp = "TLP:WHITE" reference = "https://a/" reference2 = "b"
            hash1 = "D41D8CD98F00B204E9800998ECF8427E" md5 = "d41d8cd98f00b204e9800998ecf8427e" mitre = "T1059.001"
            id = "f8032616-2a54-5107-b330-65fcc84b866e" description = "one" description = "two" malpedia_family = "win.akira"
        condition: true }"#,
    );
    let about = About::of(&split.rules[0]);
    assert_eq!(
        about.authors,
        ["Florian Roth (Nextron Systems)", "Jane Doe", "J. Roe (A, B and C)"]
    );
    assert_eq!(about.date.unwrap().to_string(), "2015-07-14");
    assert_eq!((about.score, about.tlp), (Some(70), Some("clear")));
    assert_eq!(about.references, ["https://a/", "b"]);
    assert_eq!(about.hashes, ["d41d8cd98f00b204e9800998ecf8427e"]);
    assert_eq!(about.techniques, ["T1059.001"]);
    assert_eq!(about.description.as_deref(), Some("one\ntwo"));
    assert_eq!(about.families, ["win.akira"]);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        split(&bytes);
    }

    #[test]
    fn a_damaged_file_gives_texts_that_stand_in_it(cut in 0..600_usize, byte in any::<u8>()) {
        let mut text = b"import \"pe\"\nrule A : T { meta: a = \"b\" strings: $a = \"x\" $b = { AA ?? (01 | 02) } \
            $c = /a{2}/ condition: all of them and pe.is_pe and for all i in (1..#a) : (@a[i] < 9) }\n\
            private rule B { condition: A or uint16(0) == 0x5a4d }\nrule C { condition: B }".to_vec();
        let place = cut % text.len();
        text[place] = byte;
        for rule in split(&text).rules {
            let own = rule.bytes();
            prop_assert!(text.windows(own.len()).any(|window| window == own));
        }
    }
}
