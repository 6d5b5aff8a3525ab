//! AWS as a function sees it, with nothing of local-runner in it: the Runtime API, the variables, and the event bus that it
//! puts its continuations on.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; without a harness clippy sees no tests here"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use crate::home::peak_kb;

/// How long a function may take until it asks for its first event: Lambda gives it 10 s, and is not as busy.
const INIT: Duration = Duration::from_secs(30);

/// What a function answered: its report, or the error that it posted.
pub(crate) type Answer = Result<Value, Value>;

/// An invocation on its way to a process: its id, deadline in ms of the epoch, event.
type Event = (String, u64, Value);

#[derive(Default)]
struct Bus {
    /// What each function's process is to do next.
    lines: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Event>>>>>,
    /// Who waits for which answer.
    waiting: Mutex<BTreeMap<String, oneshot::Sender<Answer>>>,
    /// When a function first asked for an event.
    asked: Mutex<BTreeMap<String, Instant>>,
    /// The events that were put, as EventBridge hands them on.
    put: Mutex<Vec<Value>>,
}

struct Process {
    child: Child,
    events: mpsc::UnboundedSender<Event>,
}

impl Process {
    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lambda and EventBridge for functions that were built apart.
pub(crate) struct Platform {
    runtime: Runtime,
    bus: Arc<Bus>,
    address: SocketAddr,
    /// Where `TASK` or `TASK/bootstrap` lies.
    programs: PathBuf,
    env: Vec<(String, String)>,
    processes: Mutex<BTreeMap<String, Process>>,
    folder: TempDir,
}

impl Platform {
    /// Functions of `programs`, with these variables beside Lambda's own.
    pub(crate) fn start(programs: &Path, env: &[(String, String)]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let bus = Arc::new(Bus::default());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().fallback(serve).with_state(Arc::clone(&bus));
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self {
            runtime,
            bus,
            address,
            programs: programs.to_path_buf(),
            env: env.to_vec(),
            processes: Mutex::default(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Sees to it that a function has a process that has asked for an event.
    pub(crate) fn warm(&self, task: &str) {
        let mut processes = self.processes.lock().unwrap();
        let living =
            processes.get_mut(task).is_some_and(|one| one.child.try_wait().unwrap().is_none());
        if !living {
            processes.insert(task.to_owned(), self.spawn(task));
        }
    }

    /// Gives a function an event, in a process that is warm if there is one; its answer, or how Lambda ended it.
    pub(crate) fn invoke(&self, task: &str, event: &Value, timeout: Duration) -> Answer {
        let id = uuid::Uuid::new_v4().to_string();
        let (answer, answered) = oneshot::channel();
        self.bus.waiting.lock().unwrap().insert(id.clone(), answer);
        self.warm(task);
        let now = base::clock::Clock::Machine.now(None).as_millisecond();
        let deadline = u64::try_from(now).unwrap() + u64::try_from(timeout.as_millis()).unwrap();
        let processes = self.processes.lock().unwrap();
        processes[task].events.send((id, deadline, event.clone())).unwrap();
        drop(processes);
        let answered =
            self.runtime.block_on(async { tokio::time::timeout(timeout, answered).await });
        match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(json!({"errorType": "Runtime.ExitError"})),
            Err(_) => {
                if let Some(process) = self.processes.lock().unwrap().get_mut(task) {
                    process.end();
                }
                Err(json!({"errorType": "Sandbox.Timedout", "errorMessage": self.log(task)}))
            }
        }
    }

    /// As Lambda's asynchronous invocation: what failed and may be tried again is, twice.
    pub(crate) fn deliver(&self, task: &str, event: &Value, timeout: Duration) -> Answer {
        let mut answer = self.invoke(task, event, timeout);
        for _ in 0..2 {
            if answer.is_ok() {
                break;
            }
            answer = self.invoke(task, event, timeout);
        }
        answer
    }

    /// The processor's time that a function's process has used so far.
    pub(crate) fn processor(&self, task: &str) -> Duration {
        let pid = self.processes.lock().unwrap()[task].child.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        // utime and stime, the 14th and 15th of proc(5), in hundredths of a second on every Linux.
        let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap());
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// Takes the events that were put since this was last called.
    pub(crate) fn take_put(&self) -> Vec<Value> {
        std::mem::take(&mut *self.bus.put.lock().unwrap())
    }

    /// From the start of a new process of a function to its first `next`.
    pub(crate) fn cold(&self, task: &str) -> Duration {
        let mut processes = self.processes.lock().unwrap();
        if let Some(mut old) = processes.remove(task) {
            old.end();
        }
        let began = Instant::now();
        processes.insert(task.to_owned(), self.spawn(task));
        self.bus.asked.lock().unwrap()[task] - began
    }

    /// The most memory that a function's process has held so far, in KiB.
    pub(crate) fn peak_kb(&self, task: &str) -> Option<u64> {
        peak_kb(self.processes.lock().unwrap()[task].child.id())
    }

    /// What a function printed.
    pub(crate) fn log(&self, task: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{task}.log"))).unwrap_or_default()
    }

    /// The folder that functions are started in; nothing of theirs belongs there.
    pub(crate) fn task_root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn spawn(&self, task: &str) -> Process {
        let (events, line) = mpsc::unbounded_channel();
        let line = Arc::new(tokio::sync::Mutex::new(line));
        self.bus.lines.lock().unwrap().insert(task.to_owned(), line);
        self.bus.asked.lock().unwrap().remove(task);
        let built = [self.programs.join(task).join("bootstrap"), self.programs.join(task)];
        let program = built.iter().find(|path| path.is_file());
        let program =
            program.unwrap_or_else(|| panic!("{} has no {task}", self.programs.display()));
        std::fs::create_dir_all(self.task_root()).unwrap();
        let log = std::fs::File::create(self.folder.path().join(format!("{task}.log"))).unwrap();
        let mut command = Command::new(program);
        command
            .env_clear()
            .current_dir(self.task_root())
            .env("AWS_LAMBDA_RUNTIME_API", format!("http://{}/{task}", self.address))
            .env("AWS_LAMBDA_FUNCTION_NAME", task)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_REGION", "sa-east-1")
            .env("AWS_ACCESS_KEY_ID", "ASIATEST")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_SESSION_TOKEN", "token")
            .env("AWS_ENDPOINT_URL_EVENTBRIDGE", format!("http://{}", self.address))
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        // As the template tells each function its row.
        let timetable = schedule::Timetable::parse(infra::TIMETABLE).unwrap();
        if let Some(when) = timetable.row(task).and_then(|row| row.when.as_ref()) {
            command
                .env("MINERVA_WHEN", format!("{} {when}", timetable.zone().iana_name().unwrap()));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = Process { child: command.spawn().unwrap(), events };
        let limit = Instant::now() + INIT;
        while !self.bus.asked.lock().unwrap().contains_key(task) {
            assert!(Instant::now() < limit, "`{task}` asks for no event: {}", self.log(task));
            std::thread::sleep(Duration::from_millis(1));
        }
        process
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        for process in self.processes.lock().unwrap().values_mut() {
            process.end();
        }
    }
}

/// The Runtime API below each function's name, and `PutEvents` at the root.
async fn serve(State(bus): State<Arc<Bus>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let path: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    match (method.as_str(), path.as_slice()) {
        ("GET", [task, "2018-06-01", "runtime", "invocation", "next"]) => next(&bus, task).await,
        ("POST", [_, "2018-06-01", "runtime", "invocation", id, what]) => {
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let answer = if *what == "response" { Ok(body) } else { Err(body) };
            let waiting = bus.waiting.lock().unwrap().remove(*id);
            let Some(waiting) = waiting else { return StatusCode::GONE.into_response() };
            let _ = waiting.send(answer);
            StatusCode::ACCEPTED.into_response()
        }
        ("POST", [""]) => put_events(&bus, &body),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn next(bus: &Bus, task: &str) -> Response {
    bus.asked.lock().unwrap().entry(task.to_owned()).or_insert_with(Instant::now);
    let line = bus.lines.lock().unwrap().get(task).cloned();
    let Some(line) = line else { return StatusCode::NOT_FOUND.into_response() };
    let Some((id, deadline, event)) = line.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let headers = [
        ("lambda-runtime-aws-request-id", id),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            format!("arn:aws:lambda:sa-east-1:123456789012:function:{task}"),
        ),
    ];
    (headers, event.to_string()).into_response()
}

/// Takes entries as EventBridge does, and keeps each as the event that rules see.
fn put_events(bus: &Bus, body: &[u8]) -> Response {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut taken = Vec::new();
    for entry in body["Entries"].as_array().into_iter().flatten() {
        let id = uuid::Uuid::new_v4().to_string();
        let detail: Value =
            serde_json::from_str(entry["Detail"].as_str().unwrap_or_default()).unwrap_or_default();
        bus.put.lock().unwrap().push(json!({
            "version": "0", "id": id, "detail-type": entry["DetailType"], "source": entry["Source"],
            "account": "123456789012", "time": "2026-03-01T12:00:00Z", "region": "sa-east-1",
            "resources": [], "detail": detail,
        }));
        taken.push(json!({"EventId": id}));
    }
    let answer = json!({"FailedEntryCount": 0, "Entries": taken});
    ([("content-type", "application/x-amz-json-1.1")], answer.to_string()).into_response()
}
