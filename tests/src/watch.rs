//! `cargo lambda watch` with only its APIs, and functions beside it, started as it would have started them itself.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What it comes from, with the version that was tried.
pub const PACKAGE: &str = "cargo-lambda==1.9.2";

/// How long it may take to listen: it asks cargo for the workspace first.
const PATIENCE: Duration = Duration::from_secs(30);

/// It and the functions; they end with the value.
pub struct Watch {
    /// Where it takes invocations.
    pub address: SocketAddr,
    children: Vec<Child>,
}

impl Watch {
    /// The name of a function that it does not know by one.
    pub const FUNCTION: &str = "_";

    /// Starts it from the folder of its programs, below the workspace whose binaries it knows by name.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub fn start(programs: &Path) -> Result<Self, String> {
        let said = |cause: std::io::Error| format!("start `cargo lambda watch`: {cause}");
        // It cannot choose a free port by itself.
        let address =
            TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).map_err(said)?;
        let mut server = Command::new(programs.join("cargo-lambda"));
        server.args(["lambda", "watch", "--only-lambda-apis", "--invoke-address", "127.0.0.1"]);
        server.arg("--invoke-port").arg(address.port().to_string());
        server.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
        let child = quiet(&mut server).map_err(said)?;
        let watch = Self { address, children: vec![child] };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > until {
                return Err(format!("`cargo lambda watch` does not listen within {PATIENCE:?}"));
            }
            thread::park_timeout(Duration::from_millis(20));
        }
        Ok(watch)
    }

    /// Starts a function under the name of a binary of the workspace, or as [`FUNCTION`](Self::FUNCTION).
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn add(&mut self, name: &str, function: &mut Command) -> std::io::Result<()> {
        let of = if name == Self::FUNCTION { String::new() } else { format!("/{name}") };
        function.env("AWS_LAMBDA_RUNTIME_API", format!("http://{}/.rt{of}", self.address));
        function.env("AWS_LAMBDA_FUNCTION_NAME", name);
        function.env("AWS_LAMBDA_FUNCTION_VERSION", "1");
        function.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256");
        self.children.push(quiet(function)?);
        Ok(())
    }
}

fn quiet(command: &mut Command) -> std::io::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

impl Drop for Watch {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
