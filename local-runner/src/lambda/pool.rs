//! The processes of all functions: how many may work at once, which are warm, how a new one comes to be.
//!
//! Concurrency counts invocations, as Lambda does: a permit per function and one of the total are held from before the
//! process is chosen until it asks for work again. The process used last is used first, so that a burst's surplus grows
//! cold and is ended.

use std::collections::{BTreeMap, HashMap};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::environment;
use super::function::{Function, Limits, Refused};
use super::instance::{Instance, InstanceStatus, Started};
use super::lock::lock;
use super::log::{Log, LogSink};

/// How long the end of all processes may take after SIGKILL; the kernel is the only one asked.
const REAP: Duration = Duration::from_secs(2);
/// The bounds of how often warm processes are looked at.
const LOOK: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// The right to run one invocation.
pub(super) struct InvocationPermit {
    _function: OwnedSemaphorePermit,
    _total: OwnedSemaphorePermit,
}

type Spawned = std::io::Result<Child>;

pub(super) struct Pool {
    pub(super) limits: Limits,
    origin: String,
    sink: LogSink,
    total: Arc<Semaphore>,
    functions: HashMap<String, Arc<Semaphore>>,
    instances: Mutex<HashMap<String, Arc<Instance>>>,
    idle: Mutex<HashMap<String, Vec<Arc<Instance>>>>,
    spawner: mpsc::Sender<(Command, oneshot::Sender<Spawned>)>,
    stopping: AtomicBool,
}

impl Pool {
    pub(super) fn new<'a>(
        limits: Limits,
        origin: String,
        sink: LogSink,
        names: impl Iterator<Item = &'a String>,
    ) -> std::io::Result<Arc<Self>> {
        let places = || Arc::new(Semaphore::new(limits.per_function));
        let pool = Arc::new(Self {
            limits,
            origin,
            sink,
            total: Arc::new(Semaphore::new(limits.total)),
            functions: names.map(|name| (name.clone(), places())).collect(),
            instances: Mutex::default(),
            idle: Mutex::default(),
            spawner: spawner()?,
            stopping: AtomicBool::new(false),
        });
        tokio::spawn(cool_down(Arc::downgrade(&pool), limits.keep_warm));
        Ok(pool)
    }

    /// A permit for one invocation, at once or, with `wait`, when one becomes free.
    pub(super) async fn permit(
        &self,
        function: &str,
        wait: bool,
    ) -> Result<InvocationPermit, Refused> {
        let Some(own) = self.functions.get(function).cloned() else {
            return Err(Refused::UnknownFunction(function.to_owned()));
        };
        let total = Arc::clone(&self.total);
        let taken = if wait {
            match own.acquire_owned().await {
                Ok(own) => total.acquire_owned().await.ok().map(|total| (own, total)),
                Err(_) => None,
            }
        } else {
            let own = own.try_acquire_owned().map_err(|_| Refused::FunctionBusy);
            let total = total.try_acquire_owned().map_err(|_| Refused::Busy);
            if self.stopping.load(Ordering::Acquire) { None } else { Some((own?, total?)) }
        };
        taken
            .map(|(function, total)| InvocationPermit { _function: function, _total: total })
            .ok_or(Refused::Stopping)
    }

    /// The warm process of a function that was used last. Those that run an older build of the program are ended.
    pub(super) fn take_idle(&self, function: &str) -> Option<Arc<Instance>> {
        loop {
            let instance = lock(&self.idle).get_mut(function)?.pop()?;
            if instance.is_current() {
                return Some(instance);
            }
            tokio::spawn(async move { instance.end().await });
        }
    }

    /// Keeps a process that waits for work.
    pub(super) fn put_idle(&self, instance: Arc<Instance>) {
        lock(&self.idle).entry(instance.function.name.clone()).or_default().push(instance);
    }

    /// The instance whose Runtime API a path names.
    pub(super) fn find(&self, function: &str, id: &str) -> Option<Arc<Instance>> {
        lock(&self.instances).get(id).filter(|instance| instance.function.name == function).cloned()
    }

    /// The variables of a function's processes.
    pub(super) fn environment(&self, function: &Function) -> BTreeMap<String, String> {
        environment::of(function, &self.origin, "<instance>")
    }

    pub(super) fn statuses(&self) -> Vec<InstanceStatus> {
        let mut all: Vec<_> =
            lock(&self.instances).values().map(|instance| instance.status()).collect();
        all.sort_by(|one, other| (&one.function, &one.id).cmp(&(&other.function, &other.id)));
        all
    }

    /// Starts a process; its first lines of log belong to the request that made it start.
    pub(super) async fn start(
        self: &Arc<Self>,
        function: &Arc<Function>,
        request_id: &str,
    ) -> std::io::Result<(Arc<Instance>, Started)> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let (reader, writer) = std::io::pipe()?;
        let pipe = pipe::Receiver::from_owned_fd(reader.into())?;
        let mut command = Command::new(&function.program);
        command
            .args(&function.args)
            .env_clear()
            .envs(environment::of(function, &self.origin, &id))
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true);
        let log = Log::new(&function.name, request_id, Arc::clone(&self.sink), pipe);
        let (instance, started) = Instance::new(id, Arc::clone(function), log);
        // Before the process can ask for anything.
        lock(&self.instances).insert(instance.id.clone(), Arc::clone(&instance));
        let guard = Guard { pool: Arc::clone(self), instance: Arc::clone(&instance) };

        let (sender, child) = oneshot::channel();
        let gone = || std::io::Error::other("the runner is stopping");
        self.spawner.send((command, sender)).map_err(|_| gone())?;
        let child = child.await.map_err(|_| gone())??;
        instance.spawned(child.id());
        if self.stopping.load(Ordering::Acquire) {
            instance.kill();
        }
        tokio::spawn(supervise(guard, child));
        Ok((instance, started))
    }

    /// Ends every process: those that work are given `grace` to finish first. Afterwards nothing is left.
    pub(super) async fn stop(&self, grace: Duration) {
        self.stopping.store(true, Ordering::Release);
        let all = u32::try_from(self.limits.total).unwrap_or(u32::MAX);
        // Held to the end, so that nobody who waits for a permit gets one in between.
        let _places = timeout(grace, self.total.acquire_many(all)).await;
        self.close();
        let instances: Vec<_> = lock(&self.instances).values().cloned().collect();
        let mut ends = tokio::task::JoinSet::new();
        for instance in instances {
            ends.spawn(async move {
                instance.end().await;
                instance.reaped().await;
            });
        }
        if timeout(REAP, async { while ends.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!(left = ends.len(), "processes of functions did not end in time");
        }
    }

    /// Refuses whoever wants a permit or waits for one.
    fn close(&self) {
        self.total.close();
        for places in self.functions.values() {
            places.close();
        }
    }

    /// Sends SIGKILL to every process, without waiting.
    pub(super) fn kill_all(&self) {
        self.stopping.store(true, Ordering::Release);
        self.close();
        for instance in lock(&self.instances).values() {
            instance.kill();
        }
    }
}

/// Ends the process when its supervisor is dropped, as it is when the async runtime goes down.
struct Guard {
    pool: Arc<Pool>,
    instance: Arc<Instance>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.instance.kill();
        lock(&self.pool.instances).remove(&self.instance.id);
        if let Some(idle) = lock(&self.pool.idle).get_mut(&self.instance.function.name) {
            idle.retain(|other| other.id != self.instance.id);
        }
    }
}

/// Stays with a process to its end: carries its log and reaps it.
async fn supervise(guard: Guard, mut child: Child) {
    let instance = &guard.instance;
    let status = tokio::select! {
        status = child.wait() => status,
        () = instance.log.pump() => child.wait().await,
    };
    instance.exited(status.ok());
}

/// Starts processes on a thread of its own, which lives as long as the pool. The kernel's parent-death signal, which
/// the processes ask for, is sent when the *thread* that started them ends, and tokio's threads come and go.
fn spawner() -> std::io::Result<mpsc::Sender<(Command, oneshot::Sender<Spawned>)>> {
    let (sender, orders) = mpsc::channel::<(Command, oneshot::Sender<Spawned>)>();
    let runtime = tokio::runtime::Handle::current();
    std::thread::Builder::new().name("lambda-spawn".to_owned()).spawn(move || {
        let _entered = runtime.enter();
        while let Ok((mut command, reply)) = orders.recv() {
            // The pipe's writing end lives in the command, which ends here. A reply that nobody takes is a child that
            // is killed on drop.
            let _ = reply.send(command.spawn());
        }
    })?;
    Ok(sender)
}

/// Ends the processes that have been idle for too long.
async fn cool_down(pool: Weak<Pool>, keep_warm: Duration) {
    let mut look = interval((keep_warm / 4).clamp(LOOK[0], LOOK[1]));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        let mut cold = Vec::new();
        for idle in lock(&pool.idle).values_mut() {
            idle.retain(|instance| match instance.idle_for() {
                Some(time) if time < keep_warm => true,
                Some(_) => {
                    cold.push(Arc::clone(instance));
                    false
                }
                None => false,
            });
        }
        for instance in cold {
            tokio::spawn(async move { instance.end().await });
        }
    }
}
