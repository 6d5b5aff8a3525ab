//! Rules that no compiler checks: what each file opens with, who may know whom, what is generated.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use base::config::{self, Setting};
use local_runner::families::{FAMILIES, all_tasks};
use schedule::Timetable;
use stores::documents::{Cap, Index};
use task::Registered;

pub(crate) const TRIALS: &[crate::Case] = &[
    ("each_file_says_what_it_is", each_file_says_what_it_is),
    ("a_task_has_its_five_places", a_task_has_its_five_places),
    ("no_family_knows_another", no_family_knows_another),
    ("a_shared_crate_names_only_floors_below_it", a_shared_crate_names_only_floors_below_it),
    ("no_circle_of_modules_is_large", no_circle_of_modules_is_large),
    ("generated_pages_are_fresh", generated_pages_are_fresh),
    ("fixtures_stay_small", fixtures_stay_small),
    ("nothing_names_a_machine", nothing_names_a_machine),
];

/// The crates of `shared/`, by floor, the lowest first: each may name those below its own floor.
const FLOORS: [&[&str]; 4] = [
    &["base"],
    &["feed", "fetch", "indicator", "schedule", "stores"],
    &["page", "task"],
    &["ioc", "llm", "names", "yara"],
];

/// Files of a crate that may need each other in a circle.
const CIRCLE_MAX: usize = 3;

const FIXTURES_MAX: u64 = 12 << 20;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests lie in the workspace")
        .to_path_buf()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below a folder, build output and hidden folders left out.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn every_file() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&root(), &mut found);
    found
}

fn rust_files() -> Vec<PathBuf> {
    let mut found = every_file();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    found
}

fn each_file_says_what_it_is() {
    let mut wrong = Vec::new();
    for path in rust_files() {
        let text = read(&path);
        let is_main = path.parent().is_some_and(|folder| folder.ends_with("src/bin"))
            || path.ends_with("src/main.rs");
        if !is_main && !text.starts_with("//!") {
            wrong.push(format!("{} does not open with `//!`", path.display()));
        }
        // Written apart, or this line would find itself.
        for half_done in [
            concat!("FIX", "ME"),
            concat!("todo", "!("),
            concat!("#[ig", "nore"),
            concat!("unimple", "mented!("),
        ] {
            if text.contains(half_done) {
                wrong.push(format!("{} holds `{half_done}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn a_task_has_its_five_places() {
    let timetable = Timetable::parse(&read(&root().join("infra/schedule.toml")))
        .expect("the timetable can be read");
    let mut wrong = Vec::new();
    for (family, task) in all_tasks() {
        let places = [
            root().join(format!("functions/{family}/src/{}.rs", task.name)),
            root().join(format!("functions/{family}/src/bin/{}.rs", task.name)),
            crate::contract::fixture(task.name),
        ];
        wrong.extend(
            places
                .iter()
                .filter(|path| !path.exists())
                .map(|path| format!("`{}` has no {}", task.name, path.display())),
        );
        if timetable.row(task.name).is_none() {
            wrong.push(format!("`{}` has no row in infra/schedule.toml", task.name));
        }
        let page = fs::read_to_string(&places[0]).unwrap_or_default();
        for word in ["//! Reads ", "//! Writes ", "//! Twice ", "//! Quirk "] {
            if !page.contains(word) {
                wrong.push(format!("{} does not say `{word}`", places[0].display()));
            }
        }
    }
    // What a removed task left behind.
    for family in FAMILIES {
        for entry in fs::read_dir(root().join(format!("functions/{}/src/bin", family.name)))
            .into_iter()
            .flatten()
            .flatten()
        {
            let stem = entry
                .path()
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
                .unwrap_or_default();
            if family.tasks.iter().all(|task| task.name != stem) {
                wrong.push(format!("{} serves no listed task", entry.path().display()));
            }
            if !read(&entry.path()).contains(&format!("\"{stem}\"")) {
                wrong.push(format!(
                    "{} does not serve the task it is named after",
                    entry.path().display()
                ));
            }
        }
    }
    for row in timetable.rows() {
        if all_tasks().all(|(_, task)| task.name != row.name) {
            wrong.push(format!("no family lists the task of the row `{}`", row.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first word of each line of a manifest, where dependencies have their names.
fn names_in(manifest: &Path) -> Vec<String> {
    let word = |line: &str| line.split(['.', ' ']).next().map(ToOwned::to_owned);
    read(manifest).lines().filter_map(word).collect()
}

fn no_family_knows_another() {
    for family in FAMILIES {
        for name in names_in(&root().join(format!("functions/{}/Cargo.toml", family.name))) {
            let is_family = FAMILIES.iter().any(|one| one.name == name && name != family.name);
            let is_above = ["infra", "local-runner", "tests"].contains(&name.as_str());
            assert!(!is_family && !is_above, "`{}` must not know `{name}`", family.name);
        }
    }
}

fn a_shared_crate_names_only_floors_below_it() {
    let floor = |name: &str| FLOORS.iter().position(|floor| floor.contains(&name));
    let mut members: Vec<String> = FAMILIES.iter().map(|family| family.name.to_owned()).collect();
    members.extend(["infra", "local-runner", "tests"].map(ToOwned::to_owned));
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(root().join("shared")).expect("there is `shared/`").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(own) = floor(&name) else {
            wrong.push(format!("`shared/{name}` stands on no floor"));
            continue;
        };
        seen += 1;
        let manifest = entry.path().join("Cargo.toml");
        if name != "schedule" && read(&manifest).contains("\"timetable\"") {
            wrong.push(format!("`shared/{name}` must not carry the timetable into every function"));
        }
        for other in names_in(&manifest) {
            let is_above = members.contains(&other) || floor(&other).is_some_and(|at| at >= own);
            if is_above {
                wrong.push(format!("`shared/{name}` must not know `{other}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen, FLOORS.concat().len(), "a floor lists a crate that is not there");
}

/// A file's module path below `src/`; none for a binary, which nothing imports.
fn module_of(file: &Path) -> Option<Vec<String>> {
    let mut path: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(path.last()?.as_str(), "lib" | "mod" | "main") {
        path.pop();
    }
    (path.first().is_none_or(|first| first != "bin")).then_some(path)
}

/// Every path that a use tree names, as `crate::a::b` of `crate::{a::{self, b}}`.
fn branches(tree: &str, before: &str, found: &mut Vec<String>) {
    let (mut depth, mut from) = (0, 0);
    for (at, letter) in tree.char_indices().chain([(tree.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let branch = tree[from..at].trim();
                match branch.split_once('{') {
                    Some((head, rest)) => {
                        let inside = rest.trim_end().trim_end_matches('}');
                        branches(inside, &format!("{before}{}", head.trim()), found);
                    }
                    None => found.push(format!("{before}{branch}")),
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// Every path to a module that a file's code names, without its comments, its tests, and what it re-exports of its children.
fn paths_in(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code = lines.collect::<Vec<_>>().join(" ");
    let (mut found, mut rest) = (Vec::new(), String::new());
    for statement in code.split_inclusive(';') {
        let Some((before, tree)) = statement.split_once("use ") else {
            rest.push_str(statement);
            continue;
        };
        let word = before.trim_end().rsplit(char::is_whitespace).next().unwrap_or_default();
        let tree = tree.trim_end_matches(';');
        match word {
            "" => branches(tree, "", &mut found),
            _ if word.ends_with(['}', '{', ']']) => branches(tree, "", &mut found),
            _ if word.starts_with("pub") => {
                let mut exported = Vec::new();
                branches(tree, "", &mut exported);
                exported.retain(|path| path.starts_with("crate::") || path.starts_with("super::"));
                found.append(&mut exported);
            }
            _ => rest.push_str(tree),
        }
        rest.push_str(before);
        rest.push(' ');
    }
    let is_path = |letter: char| letter.is_alphanumeric() || "_:".contains(letter);
    found.extend(
        rest.split(|letter| !is_path(letter))
            .filter(|word| word.contains("::"))
            .map(ToOwned::to_owned),
    );
    found
}

/// Which of a crate's modules a path in one of them leads to, where it is not that module itself.
fn module_meant(
    path: &str,
    from: &[String],
    modules: &BTreeMap<Vec<String>, Vec<String>>,
) -> Option<Vec<String>> {
    let mut at = from.to_vec();
    let mut words = path.split("::").map(str::trim).peekable();
    match *words.peek()? {
        "crate" => at.clear(),
        "super" => {
            at.pop();
        }
        // A child, by its name alone; anything else is another crate's or a type.
        "self" => {}
        child if modules.contains_key(&[from, &[child.to_owned()]].concat()) => {
            at.push(child.to_owned());
        }
        _ => return None,
    }
    for word in words.skip(1) {
        let below = [at.as_slice(), &[word.to_owned()]].concat();
        match word {
            "super" => {
                at.pop();
            }
            _ if modules.contains_key(&below) => at = below,
            _ => break,
        }
    }
    (at != from && modules.contains_key(&at)).then_some(at)
}

/// A module needs another when its code imports from it or names a path into it. `mod` declarations are no need, nor is what a
/// module re-exports, nor tests. Modules that need each other, directly or through others, form a circle: each must be read to
/// understand the others, so there are at most [`CIRCLE_MAX`] in one. Across crates the compiler allows none.
fn no_circle_of_modules_is_large() {
    let mut wrong = Vec::new();
    for manifest in every_file().iter().filter(|path| path.ends_with("Cargo.toml")) {
        let source = manifest.parent().expect("it lies in a folder").join("src");
        let mut sources = Vec::new();
        files(&source, &mut sources);
        let modules: BTreeMap<Vec<String>, Vec<String>> = sources
            .iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
            .filter_map(|path| {
                let module = module_of(path.strip_prefix(&source).ok()?)?;
                Some((module, paths_in(&read(path))))
            })
            .collect();
        let needs: BTreeMap<_, BTreeSet<_>> = modules
            .iter()
            .map(|(from, paths)| {
                (from, paths.iter().filter_map(|path| module_meant(path, from, &modules)).collect())
            })
            .collect();
        // Everything that a module needs, directly or not.
        let reached = |from: &Vec<String>| {
            let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
            while let Some(next) = open.pop() {
                open.extend(needs[&next].iter().filter(|one| seen.insert((*one).clone())).cloned());
            }
            seen
        };
        let reached: BTreeMap<_, _> = modules.keys().map(|from| (from, reached(from))).collect();
        let mut told = BTreeSet::new();
        for (from, needed) in &reached {
            let circle: BTreeSet<_> =
                needed.iter().filter(|one| reached[one].contains(*from)).collect();
            if circle.len() > CIRCLE_MAX && told.insert(circle.clone()) {
                let name = |module: &&Vec<String>| {
                    if module.is_empty() { "lib".to_owned() } else { module.join("::") }
                };
                let names: Vec<String> = circle.iter().map(name).collect();
                wrong.push(format!("{}: {} need each other", source.display(), names.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn fixtures_stay_small() {
    let mut found = Vec::new();
    files(&root().join("tests/fixtures"), &mut found);
    let bytes: u64 =
        found.iter().filter_map(|path| fs::metadata(path).ok()).map(|meta| meta.len()).sum();
    assert!(bytes <= FIXTURES_MAX, "the fixtures hold {bytes} bytes, more than {FIXTURES_MAX}");
}

fn nothing_names_a_machine() {
    let found = every_file();
    let fixtures = root().join("tests/fixtures");
    // Written apart, or this line would find itself.
    let places = [concat!("/wo", "rk/"), concat!("/fa", "rm/"), concat!("/ro", "ot/")];
    let wrong: Vec<String> = found
        .iter()
        .filter(|path| {
            !path.starts_with(&fixtures)
                && path.file_name().is_some_and(|name| name != "Cargo.lock")
        })
        .filter(|path| {
            fs::read_to_string(path)
                .is_ok_and(|text| places.iter().any(|place| text.contains(place)))
        })
        .map(|path| path.display().to_string())
        .collect();
    assert!(wrong.is_empty(), "these name a path of one machine: {wrong:?}");
}

fn generated_pages_are_fresh() {
    let pages = BTreeMap::from([
        ("docs/CONFIG.md", config_page()),
        ("docs/FIELDS.md", fields_page()),
        ("docs/TASKS.md", tasks_page()),
    ]);
    let mut stale = Vec::new();
    for (name, page) in pages {
        let path = root().join(name);
        if fs::read_to_string(&path).unwrap_or_default() == page {
            continue;
        }
        stale.push(name);
        if config::variable("CI").is_none() {
            fs::write(&path, page).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
    assert!(
        stale.is_empty(),
        "{stale:?} were stale; `cargo test` has rewritten them (not in CI): look at the difference and commit it"
    );
}

fn config_page() -> String {
    let mut page = String::from(
        "# Settings\n\nGenerated by `cargo test` from `shared/base/src/config.rs` and from what each family declares in its `settings!`. Each is\n\
         an environment variable; `local-runner` also reads a `.env` file below them. `local-runner doctor` checks them all, and\n\
         reports every problem at once. The value of each may stand elsewhere, so that no secret is written down: `file:PATH`,\n\
         `ssm:/PATH/NAME` (AWS Systems Manager) or `aws-secretsmanager:ARN`, read once when a process starts.\n",
    );
    for (concern, settings) in config::all() {
        config_section(&mut page, concern, settings);
    }
    for family in FAMILIES.iter().filter(|family| !family.settings.list.is_empty()) {
        config_section(&mut page, &format!("Family `{}`", family.name), family.settings.list);
    }
    page
}

fn config_section(page: &mut String, title: &str, settings: &[Setting]) {
    let _ = write!(page, "\n## {title}\n\n| name | default | what it is for |\n|---|---|---|\n");
    for setting in settings {
        let default = match setting.default {
            "" => "—".to_owned(),
            default => format!("`{default}`"),
        };
        let _ = writeln!(page, "| `{}` | {default} | {} |", setting.name, setting.about.trim());
    }
}

fn fields_page() -> String {
    let mut page = String::from(
        "# Fields\n\nGenerated by `cargo test` from `shared/stores/src/documents/mappings/`. A field with a `.keyword` sub-field can be asked for under\n\
         either name. No field takes more from one write than stands under *at most*, its values together: a text is cut, an exact value\n\
         that does not fit and what is of another type are left out, and the report says so. Several indices are searched as one under these names:\n\n",
    );
    for group in Index::groups() {
        let _ = writeln!(page, "- `{}`: {}", group.name, group.several.join(", "));
    }
    for index in Index::all() {
        let _ = write!(
            page,
            "\n## `{}`, version {}\n\n{}| field | type | at most | what it holds |\n|---|---|---|---|\n",
            index.name,
            index.mapping["_meta"]["version"],
            index
                .newest_by
                .as_ref()
                .map(|date| format!("Newest by `{date}`.\n\n"))
                .unwrap_or_default()
        );
        for (field, form) in index.mapping["properties"].as_object().into_iter().flatten() {
            let mut kind = form["type"].as_str().unwrap_or("object").to_owned();
            if let Some(path) = form["path"].as_str() {
                let _ = write!(kind, " of `{path}`");
            }
            if form["fields"].get("keyword").is_some() {
                kind.push_str(", `.keyword`");
            }
            let about = Index::about(field).unwrap_or_default();
            let most = match kind.starts_with("alias") || field == "owners" {
                true => String::new(),
                false => index.cap(field).map_or_else(String::new, most),
            };
            let _ = writeln!(page, "| `{field}` | {kind} | {most} | {about} |");
        }
    }
    page
}

/// A field's cap as the page shows it.
fn most(cap: Cap) -> String {
    let bytes = match cap.bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    };
    if cap.values == 1 { bytes } else { format!("{bytes}, {} values", cap.values) }
}

fn tasks_page() -> String {
    let timetable = Timetable::parse(&read(&root().join("infra/schedule.toml")))
        .expect("the timetable can be read");
    let zone = timetable.zone().iana_name().unwrap_or_default().to_owned();
    let mut page = format!(
        "# Tasks\n\nGenerated by `cargo test` from `infra/schedule.toml` and each task's own file. Times are local to {zone}.\n\n\
         | task | when | what it does |\n|---|---|---|\n"
    );
    for row in timetable.rows() {
        let when =
            row.when.as_ref().map_or_else(|| "on demand".to_owned(), |when| format!("`{when}`"));
        let _ = writeln!(page, "| [`{0}`](#{0}) | {when} | {1} |", row.name, row.does);
    }
    for (family, task) in all_tasks() {
        let text = read(&root().join(format!("functions/{family}/src/{}.rs", task.name)));
        let opening: Vec<&str> =
            text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
        let _ = write!(
            page,
            "\n## {}\n\n{}\n\n",
            task.name,
            opening.first().copied().unwrap_or_default()
        );
        for line in opening.iter().skip(1).filter(|line| !line.is_empty()) {
            match line.split_once(' ') {
                Some((word @ ("Reads" | "Writes" | "Twice" | "Quirk"), rest)) => {
                    let _ = writeln!(page, "- **{word}** {}", rest.trim());
                }
                _ => {
                    let _ = writeln!(page, "  {line}");
                }
            }
        }
        let _ = writeln!(page, "- **Input** {}", input(task));
    }
    page
}

/// The fields of a task's input, as its own refusal lists them.
fn input(task: &Registered) -> String {
    let refusal = task
        .check_input(&serde_json::json!({"?": 0}))
        .map_or_else(|error| error.chain(), |()| String::new());
    match refusal.split_once("expected ") {
        Some((_, fields)) => fields
            .replace("one of ", "")
            .trim_end_matches(|letter: char| letter.is_numeric() || " atlineco".contains(letter))
            .to_owned(),
        None => "none".to_owned(),
    }
}
