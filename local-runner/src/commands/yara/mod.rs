//! `yara export`: stored rules as files that compilers take, and a manifest that says which compilers proved it.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base::{Error, Result};
use serde_json::{Value, json};
use stores::documents::{Body, Filter, Index, Pages, Scan};
use yara::document::INDEX;
use yara::export::{self, ExportFilter, Selection};

use crate::cli::{Cli, ExportArgs};
use crate::home::{open_documents, settings};
use crate::out::{self, Outcome};

mod compilers;

use compilers::Compilers;

/// `local-runner yara export`.
pub(crate) async fn export(cli: &Cli, args: &ExportArgs) -> Outcome {
    let places = Places::of(&args.to)?;
    let rules = active(cli).await?;
    let filter = ExportFilter {
        categories: args.categories.clone(),
        families: args.families.clone(),
        score: args.score,
        license: args.license.clone(),
        verdicts: args.verdicts.clone(),
    };
    unknown(&rules, &filter).iter().for_each(|line| out::note(line));
    let compilers = Compilers::find(args.compilers.as_deref(), places.folder()).await;
    let proof = Proof::of(&compilers);
    let (selection, proof) = prove(Selection::of(&rules, &filter), compilers, proof).await?;
    let export = selection.export();
    let texts = &export.texts;
    let json_text = |value: &Value| serde_json::to_string_pretty(value).expect("plain JSON");
    write(&places.plain, &texts.plain)?;
    write(&places.withheld, &json_text(&json!(export.withheld)))?;
    let mut files = vec![&places.plain, &places.withheld, &places.manifest];
    if texts.variables.is_empty() {
        // What an earlier export left would be taken for this one's.
        remove(&places.with_variables)?;
        remove(&places.variables)?;
    } else {
        write(&places.with_variables, &texts.with_variables)?;
        write(&places.variables, &json_text(&json!(texts.variables)))?;
        files.extend([&places.with_variables, &places.variables]);
    }
    let unasked = export.withheld.iter().filter(|rule| rule.reason == export::NOT_ASKED_FOR);
    let unasked = unasked.count();
    let manifest = json!({
        "active": rules.len(),
        "exported": export.exported,
        "withheld": export.withheld.len(),
        "not_asked_for": unasked,
        "renamed": export.renamed,
        "proved_by": proof.by,
        "unproved": proof.unproved,
        "files": files,
    });
    write(&places.manifest, &json_text(&manifest))?;
    let code = if proof.is_refused { out::FAILED } else { out::DONE };
    if cli.json {
        out::json(&manifest);
        return Ok(code);
    }
    out::line(&format!(
        "{} of {} active rules exported, {} withheld, {} not asked for, {} renamed or copied",
        export.exported,
        rules.len(),
        export.withheld.len() - unasked,
        unasked,
        export.renamed.len()
    ));
    if !proof.by.is_empty() {
        out::line(&format!("proven: all of it was compiled by {}", proof.by.join(" and ")));
    }
    if let Some(unproved) = &proof.unproved {
        out::line(&format!("not proven: {unproved}"));
    }
    out::line(&format!("{}", places.plain.display()));
    if !texts.variables.is_empty() {
        let names: Vec<&str> = texts.variables.keys().map(String::as_str).collect();
        out::line(&format!(
            "{}  compiles with these variables defined: {}",
            places.with_variables.display(),
            names.join(", ")
        ));
    }
    out::line(&format!("{}  says why each of the others is not there", places.withheld.display()));
    Ok(code)
}

/// What proved an export.
struct Proof {
    /// The compilers that took all of it.
    by: Vec<String>,
    /// What was not proven, and why.
    unproved: Option<String>,
    /// Whether a compiler is there that does not take it.
    is_refused: bool,
}

impl Proof {
    /// As it is where each compiler that is there takes the rules.
    fn of(compilers: &Compilers) -> Self {
        let missing = compilers.missing();
        let unproved = (!missing.is_empty()).then(|| {
            format!(
                "{} not found, so that it was held against the known ways alone in which {} a rule; \
                 `pip install yara-python yara-x` has both",
                if missing.len() == 1 { format!("{} was", missing[0]) } else { "YARA and YARA-X were".to_owned() },
                if missing.len() == 1 { format!("{} refuses", missing[0]) } else { "they refuse".to_owned() },
            )
        });
        Self { by: compilers.names(), unproved, is_refused: false }
    }
}

/// Withholds what the compilers refuse.
async fn prove(
    mut selection: Selection,
    compilers: Compilers,
    mut proof: Proof,
) -> Result<(Selection, Proof)> {
    if proof.by.is_empty() {
        return Ok((selection, proof));
    }
    let runtime = tokio::runtime::Handle::current();
    let work = move || {
        let proved = selection.prove(|texts| runtime.block_on(compilers.ask(texts)));
        if let Err(why) = proved {
            proof = Proof { by: Vec::new(), unproved: Some(why), is_refused: true };
        }
        (selection, proof)
    };
    let failed = |cause| Error::format("prove the export: the work panicked").because(cause);
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

/// What was asked for and no active rule has: most likely a slip of the hand.
fn unknown(rules: &[Body], filter: &ExportFilter) -> Vec<String> {
    let categories = values(rules, "category");
    let families = values(rules, "families");
    let has = |known: &BTreeSet<&str>, wanted: &str| {
        known.iter().any(|one| one.eq_ignore_ascii_case(wanted))
    };
    let known: Vec<&str> = categories.iter().copied().collect();
    let categories =
        filter.categories.iter().filter(|wanted| !has(&categories, wanted)).map(|wanted| {
            format!("no active rule has the category `{wanted}`; there are: {}", known.join(", "))
        });
    let families = filter.families.iter().filter(|wanted| !has(&families, wanted)).map(|wanted| {
        format!("no active rule is for the family `{wanted}`; `search --index malpedia_families` finds a family's id")
    });
    categories.chain(families).collect()
}

/// The values of a field, in each rule one or a list.
fn values<'r>(rules: &'r [Body], field: &str) -> BTreeSet<&'r str> {
    let of_rule = |body: &'r Body| match body.get(field) {
        Some(Value::Array(values)) => values.as_slice(),
        Some(value) => std::slice::from_ref(value),
        None => &[],
    };
    rules.iter().flat_map(of_rule).filter_map(Value::as_str).collect()
}

async fn active(cli: &Cli) -> Result<Vec<Body>> {
    let index = Index::named(INDEX)?;
    let store = open_documents(&settings(cli)?).await?;
    let mut rules = Vec::new();
    let is_active = Filter::Terms("active".to_owned(), vec!["true".to_owned()]);
    let scan = Scan { filters: vec![is_active], ..Scan::of(export::FIELDS) };
    let mut pages = Pages::new(store.as_ref(), index, scan);
    while let Some(page) = pages.next().await? {
        rules.extend(page.into_iter().map(|one| one.body));
    }
    Ok(rules)
}

/// The files of an export: in a folder of their own, or beside the one that was named.
struct Places {
    plain: PathBuf,
    with_variables: PathBuf,
    variables: PathBuf,
    withheld: PathBuf,
    manifest: PathBuf,
}

impl Places {
    /// The folder of them all.
    fn folder(&self) -> &Path {
        self.plain
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }

    fn of(to: &Path) -> Result<Self> {
        let is_file = to.extension().is_some_and(|ending| ending == "yar" || ending == "yara");
        let (folder, stem) = if is_file {
            let stem = to.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            (to.parent().map(Path::to_path_buf).unwrap_or_default(), stem.unwrap_or_default())
        } else {
            (to.to_path_buf(), "rules".to_owned())
        };
        if !folder.as_os_str().is_empty() {
            fs::create_dir_all(&folder).map_err(|cause| unwritable(&folder, cause))?;
        }
        let plain = if is_file { to.to_path_buf() } else { folder.join("rules.yar") };
        Ok(Self {
            plain,
            with_variables: folder.join(format!("{stem}-with-variables.yar")),
            variables: folder.join(format!("{stem}-externals.json")),
            withheld: folder.join(format!("{stem}-withheld.json")),
            manifest: folder.join(format!("{stem}-manifest.json")),
        })
    }
}

/// Writes a file whole or not at all: a scanner may read it at any time.
fn write(path: &Path, text: &str) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    fs::write(&part, text)
        .and_then(|()| fs::rename(&part, path))
        .map_err(|cause| unwritable(path, cause))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(unwritable(path, cause)),
        _ => Ok(()),
    }
}

fn unwritable(path: &Path, cause: std::io::Error) -> Error {
    Error::config(format!("write `{}`", path.display()))
        .because(cause)
        .hint("`--to` names a folder, or a file that ends in `.yar`")
}
