//! YARA and YARA-X as they are installed: found, and asked whether they take a text of rules.
//!
//! A compiler is a process of its own, so that a rule which ends it ends nothing else. Linking them was measured and not
//! taken: YARA-X without its modules is 183 crates, 8.6 minutes of processor time and 5.9 MB, and YARA itself is a C library.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use base::config::variable;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use yara::export::{Answer, Texts};

/// How long a compiler may work on one text.
const COMPILE: Duration = Duration::from_secs(120);
/// How long all questions of one export may take.
const PROOF: Duration = Duration::from_secs(900);
/// Memory of a compiler, in bytes; all of signature-base takes 0.3 GiB.
const MEMORY_BYTES: u64 = 2 << 30;
/// How much of a compiler's words is read, in bytes.
const SAID_BYTES: u64 = 64 << 10;
/// How much of a compiler's words is told, in characters.
const REASON_CHARS: usize = 300;

/// A way to ask a compiler.
struct Way {
    /// The compiler.
    name: &'static str,
    /// Names of the program.
    programs: &'static [&'static str],
    /// What comes before the other arguments.
    script: Option<&'static str>,
    /// The arguments that compile `rules`, the variables being `variables` and in the file that is named last.
    compile: fn(rules: &Path, variables: &BTreeMap<String, Value>, file: &Path) -> Vec<String>,
}

/// Python finds no module beside the files of the caller's folder, and says nothing but the compiler's own words.
macro_rules! script {
    ($module:literal, $version:literal, $compile:literal) => {
        concat!(
            "import sys\nsys.path = [place for place in sys.path if place]\n",
            "import importlib.metadata, json\nimport ",
            $module,
            "\nif len(sys.argv) < 3:\n    print(",
            $version,
            ")\n    sys.exit()\n",
            "text = open(sys.argv[1], encoding='utf-8', newline='').read()\n",
            "variables = json.load(open(sys.argv[2], encoding='utf-8'))\n",
            "try:\n    ",
            $compile,
            "\nexcept Exception as error:\n    sys.exit(str(error))\n"
        )
    };
}

const YARA: &str = "YARA";
const YARA_X: &str = "YARA-X";

/// In the order in which they are looked for.
const WAYS: [Way; 4] = [
    Way {
        name: YARA,
        programs: &["yarac"],
        script: None,
        compile: |rules, variables, _| {
            let mut arguments = vec!["-w".to_owned()];
            for (name, value) in variables {
                let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
                arguments.extend(["-d".to_owned(), format!("{name}={value}")]);
            }
            arguments.extend([rules.to_string_lossy().into_owned(), "/dev/null".to_owned()]);
            arguments
        },
    },
    Way {
        name: YARA,
        programs: &["python3", "python"],
        script: Some(script!(
            "yara",
            "yara.YARA_VERSION",
            "yara.compile(source=text, externals=variables, includes=False)"
        )),
        compile: |rules, _, file| vec![shown(rules), shown(file)],
    },
    Way {
        name: YARA_X,
        programs: &["yr"],
        script: None,
        compile: |rules, variables, _| {
            let mut arguments = vec!["compile".to_owned(), "--disable-warnings".to_owned()];
            for (name, value) in variables {
                arguments.extend(["--define".to_owned(), format!("{name}={value}")]);
            }
            arguments.extend(["--output".to_owned(), "/dev/null".to_owned(), shown(rules)]);
            arguments
        },
    },
    Way {
        name: YARA_X,
        programs: &["python3", "python"],
        script: Some(script!(
            "yara_x",
            "importlib.metadata.version('yara-x')",
            "compiler = yara_x.Compiler()\n    [compiler.define_global(name, value) for name, value in variables.items()]\n    compiler.add_source(text)"
        )),
        compile: |rules, _, file| vec![shown(rules), shown(file)],
    },
];

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A compiler that is there.
struct Installed {
    way: &'static Way,
    program: PathBuf,
    version: String,
}

impl Installed {
    fn name(&self) -> String {
        format!("{} {}", self.way.name, self.version)
    }

    fn command(&self) -> Command {
        command(&self.program, self.way)
    }
}

fn command(program: &Path, way: &Way) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LANG", "C.UTF-8").env("NO_COLOR", "1");
    // Where Python finds what its user installed.
    for name in ["PATH", "HOME"] {
        if let Some(value) = variable(name) {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    if let Some(script) = way.script {
        command.args(["-c", script]);
    }
    command
}

/// The compilers that are installed, and what they were asked.
pub(super) struct Compilers {
    all: Vec<Installed>,
    started: Instant,
    /// What they read, beside the files of the export.
    rules: PathBuf,
    variables: PathBuf,
}

impl Compilers {
    /// Looks into a folder, or else into those of `PATH`. What is asked is written into `scratch`.
    pub(super) async fn find(folder: Option<&Path>, scratch: &Path) -> Self {
        let path = variable("PATH").unwrap_or_default();
        let places: Vec<PathBuf> = match folder {
            Some(folder) => vec![folder.to_path_buf()],
            None => std::env::split_paths(&path).filter(|place| place.is_absolute()).collect(),
        };
        let mut all: Vec<Installed> = Vec::new();
        for way in &WAYS {
            if all.iter().any(|known| known.way.name == way.name) {
                continue;
            }
            let programs = way.programs.iter();
            let programs =
                programs.flat_map(|name| places.iter().map(move |place| place.join(name)));
            for program in programs.filter(|program| program.is_file()) {
                if let Some(version) = version(&program, way).await {
                    all.push(Installed { way, program, version });
                    break;
                }
            }
        }
        let file = |name: &str| scratch.join(format!(".{name}-{}", std::process::id()));
        Self { all, started: Instant::now(), rules: file("rules"), variables: file("variables") }
    }

    /// Their names and versions.
    pub(super) fn names(&self) -> Vec<String> {
        self.all.iter().map(Installed::name).collect()
    }

    /// Those of the two that are not there.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let has = |name: &str| self.all.iter().any(|known| known.way.name == name);
        [YARA, YARA_X].into_iter().filter(|name| !has(name)).collect()
    }

    /// Asks each of them about both texts.
    pub(super) async fn ask(&self, texts: &Texts) -> Answer {
        let nothing = BTreeMap::new();
        for (text, variables) in
            [(&texts.plain, &nothing), (&texts.with_variables, &texts.variables)]
        {
            let written = fs::write(&self.rules, text)
                .and_then(|()| fs::write(&self.variables, json!(variables).to_string()));
            if let Err(cause) = written {
                return Answer::Unknown(format!("`{}`: {cause}", shown(&self.rules)));
            }
            for compiler in &self.all {
                let left = PROOF.saturating_sub(self.started.elapsed()).min(COMPILE);
                if left.is_zero() {
                    let limit = PROOF.as_secs();
                    return Answer::Unknown(format!("the compilers took more than {limit} s"));
                }
                match self.compile(compiler, variables, left).await {
                    Answer::Taken => {}
                    other => return other,
                }
            }
        }
        Answer::Taken
    }

    async fn compile(
        &self,
        compiler: &Installed,
        variables: &BTreeMap<String, Value>,
        limit: Duration,
    ) -> Answer {
        let mut command = compiler.command();
        command.args((compiler.way.compile)(&self.rules, variables, &self.variables));
        let name = compiler.name();
        let (status, said) = match run(command, limit).await {
            Ok(ended) => ended,
            Err(cause) => return Answer::Unknown(format!("{name} could not be run: {cause}")),
        };
        let refused = |why: &str| Answer::Refused(format!("{name} refuses it: {why}"));
        match status {
            None => refused(&format!("it takes more than {} s", limit.as_secs())),
            Some(status) if status.success() => Answer::Taken,
            Some(status) if status.code().is_none() => refused(&format!("it ends it: {status}")),
            Some(_) => refused(&self.reason(&said)),
        }
    }

    /// The first line that tells of an error, without the place of the file that was read.
    fn reason(&self, said: &str) -> String {
        let mut lines = said.lines().filter(|line| !line.trim().is_empty());
        let first = lines.clone().find(|line| line.contains("error")).or_else(|| lines.next());
        let line = first.unwrap_or("it does not say why").replace(&shown(&self.rules), "line ");
        line.trim().chars().take(REASON_CHARS).collect()
    }
}

impl Drop for Compilers {
    fn drop(&mut self) {
        for path in [&self.rules, &self.variables] {
            // They are not there where nothing was asked.
            let _ = fs::remove_file(path);
        }
    }
}

/// The version of a compiler, if it can be asked this way.
async fn version(program: &Path, way: &Way) -> Option<String> {
    let mut command = command(program, way);
    if way.script.is_none() {
        command.arg("--version");
    }
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let output = tokio::time::timeout(COMPILE, command.output()).await.ok()?.ok()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let word =
        said.split_whitespace().find(|word| word.starts_with(|start: char| start.is_ascii_digit()));
    word.filter(|_| output.status.success()).map(|word| word.chars().take(20).collect())
}

/// Runs a compiler to its end, or until `limit`: then there is no status.
async fn run(
    mut command: Command,
    limit: Duration,
) -> std::io::Result<(Option<ExitStatus>, String)> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    restrict(&child);
    let mut said = Vec::new();
    let stderr = child.stderr.take();
    let work = async {
        if let Some(stderr) = stderr {
            // Beyond that it writes to nobody.
            stderr.take(SAID_BYTES).read_to_end(&mut said).await?;
        }
        child.wait().await
    };
    let status = match tokio::time::timeout(limit, work).await {
        Ok(status) => Some(status?),
        Err(_) => {
            child.kill().await?;
            None
        }
    };
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}

/// Limits a compiler's memory, where the kernel can do it from outside.
#[cfg(target_os = "linux")]
fn restrict(child: &tokio::process::Child) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let limit = Rlimit { current: Some(MEMORY_BYTES), maximum: Some(MEMORY_BYTES) };
    if let Some(id) = id {
        // A child that has ended already needs none.
        let _ = prlimit(Some(id), Resource::Data, limit);
    }
}

#[cfg(not(target_os = "linux"))]
fn restrict(_: &tokio::process::Child) {}
