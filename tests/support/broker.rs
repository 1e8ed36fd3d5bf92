//! A broker process with its own data directory and ports.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::DEADLINE;

/// Lines of stderr that a failed test prints.
const STDERR_LINES_SHOWN: usize = 40;
/// Ports of a broker that has an address for itself.
const MQTT_PORT: u16 = 1_883;
const HTTP_PORT: u16 = 8_080;

/// How to start a broker.
#[derive(Debug, Default)]
pub(crate) struct Options {
    dir: Option<PathBuf>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    listeners: Vec<String>,
    descriptors: Option<u64>,
    host: Option<IpAddr>,
    within: Vec<String>,
    journal: Option<PathBuf>,
}

impl Options {
    /// Listens at this address, with ports that are the same for each such broker.
    pub(crate) fn host(mut self, host: IpAddr) -> Self {
        self.host = Some(host);
        self
    }

    /// Runs the broker by this command, which becomes the broker.
    pub(crate) fn within(mut self, command: &[&str]) -> Self {
        self.within = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Appends everything that its processes say to this file, too.
    pub(crate) fn journal(mut self, file: impl Into<PathBuf>) -> Self {
        self.journal = Some(file.into());
        self
    }

    /// Lets the process have this many file descriptors.
    pub(crate) fn descriptors(mut self, limit: u64) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// Keeps the data in `dir`, which outlives the broker.
    pub(crate) fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Adds an argument of the command line.
    pub(crate) fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets a key of the configuration, such as `gateway.limits.connections`.
    pub(crate) fn set(mut self, key: &str, value: impl ToString) -> Self {
        let name = format!("LEDGERMQ_{}", key.replace('.', "__").to_uppercase());
        self.environment.push((name, value.to_string()));
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a listener with those lines of TOML besides its address; see [`Broker::listeners`].
    pub(crate) fn listener(mut self, keys: impl Into<String>) -> Self {
        self.listeners.push(keys.into());
        self
    }

    /// Starts the broker and waits until it says `ready`.
    pub(crate) fn start(self) -> Broker {
        let mut broker = self.prepare();
        broker.start();
        broker
    }

    /// A broker that is not started yet.
    pub(crate) fn prepare(mut self) -> Broker {
        let (config, listeners) = self.write_listeners();
        let own = self.dir.is_none().then(|| tempfile::tempdir().expect("a temporary directory"));
        let dir = match (&own, self.dir) {
            (Some(own), _) => own.path().join("data"),
            (None, dir) => dir.expect("given, since none was made"),
        };
        let (mqtt, http) = match self.host {
            Some(host) => ((host, MQTT_PORT).into(), (host, HTTP_PORT).into()),
            None => (free_address(), free_address()),
        };
        Broker {
            process: None,
            mqtt,
            http,
            listeners,
            dir,
            arguments: self.arguments,
            environment: self.environment,
            descriptors: self.descriptors,
            within: self.within,
            journal: self.journal,
            stderr: Arc::default(),
            reader: None,
            _own: own,
            _config: config,
        }
    }

    /// Writes a configuration file with the listeners, if there are any; their addresses.
    fn write_listeners(&mut self) -> (Option<TempDir>, Vec<SocketAddr>) {
        if self.listeners.is_empty() {
            return (None, Vec::new());
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("listeners.toml");
        let mut text = String::new();
        let mut addresses = Vec::new();
        for keys in &self.listeners {
            let address = free_address();
            writeln!(text, "[[gateway.listener]]\naddress = \"{address}\"\n{keys}").expect("room");
            addresses.push(address);
        }
        std::fs::write(&path, text).expect("the temporary directory takes a file");
        self.arguments.extend(["--config".to_owned(), path.display().to_string()]);
        (Some(dir), addresses)
    }
}

/// A broker; killed when dropped.
#[derive(Debug)]
pub(crate) struct Broker {
    process: Option<Child>,
    /// Address of MQTT.
    pub(crate) mqtt: SocketAddr,
    /// Address of HTTP.
    pub(crate) http: SocketAddr,
    /// Addresses of the listeners of [`Options::listener`], in their order.
    pub(crate) listeners: Vec<SocketAddr>,
    /// Data directory.
    pub(crate) dir: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    descriptors: Option<u64>,
    within: Vec<String>,
    journal: Option<PathBuf>,
    stderr: Arc<Mutex<String>>,
    /// Reads stderr until the process has ended.
    reader: Option<JoinHandle<()>>,
    _own: Option<TempDir>,
    _config: Option<TempDir>,
}

impl Broker {
    /// A broker with the defaults, ready.
    pub(crate) fn run() -> Self {
        Options::default().start()
    }

    /// Starts the process and waits until it says `ready`.
    pub(crate) fn start(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// Starts the process without waiting.
    pub(crate) fn spawn(&mut self) {
        assert!(self.process.is_none(), "the broker runs already");
        self.stderr.lock().expect("no panic while held").clear();
        let mut command = self.command();
        let mut child = command.spawn().expect("the broker's binary starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let lines = self.stderr.clone();
        let mut journal = self.journal.as_ref().map(|file| {
            File::options().create(true).append(true).open(file).expect("a file can be made")
        });
        self.reader = Some(thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(journal) = &mut journal {
                    let _ = writeln!(journal, "{line}");
                }
                let mut lines = lines.lock().expect("no panic while held");
                let _ = writeln!(lines, "{line}");
            }
        }));
        self.process = Some(child);
    }

    fn command(&self) -> Command {
        let program = std::env::var_os("LEDGERMQ_TEST_PROGRAM");
        let program = program.unwrap_or(env!("CARGO_BIN_EXE_ledgermq").into());
        let mut command = match self.descriptors {
            _ if !self.within.is_empty() => {
                let mut command = Command::new(&self.within[0]);
                command.args(&self.within[1..]).arg(program);
                command
            }
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("ulimit -n {limit}; exec \"$0\" \"$@\"")).arg(program);
                shell
            }
            None => Command::new(program),
        };
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(&self.dir)
            .args(["--mqtt", &self.mqtt.to_string(), "--http", &self.http.to_string()])
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Waits until the process says `ready`.
    pub(crate) fn wait_ready(&mut self) {
        self.wait_for("ready", |broker| broker.stderr().lines().any(|line| line == "ready"));
    }

    /// Waits until `holds`; panics after the deadline or if the process ends before.
    pub(crate) fn wait_for(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + 3 * DEADLINE;
        while !holds(self) {
            if let Some(status) = self.ended() {
                self.hear_out();
                panic!("the broker ended ({status}) before {what}:\n{}", self.stderr());
            }
            assert!(Instant::now() < end, "waited too long for {what}:\n{}", self.stderr());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether there is a process, as far as is known.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().expect("the broker runs").id()
    }

    /// Whether a tracer holds every thread of the process.
    pub(crate) fn is_traced(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.id()));
        threads.expect("a process has threads").flatten().all(|thread| {
            let status = std::fs::read_to_string(thread.path().join("status"));
            status.is_ok_and(|text| !text.contains("TracerPid:\t0\n"))
        })
    }

    /// The exit status if the process ended by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let process = self.process.as_mut().expect("the broker was started");
        process.try_wait().expect("a child can be waited for")
    }

    /// Waits until the process ends by itself.
    pub(crate) fn wait_end(&mut self) -> ExitStatus {
        let end = Instant::now() + 3 * DEADLINE;
        loop {
            if let Some(status) = self.ended() {
                self.process = None;
                self.hear_out();
                return status;
            }
            assert!(Instant::now() < end, "the broker does not end:\n{}", self.stderr());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
            self.hear_out();
        }
    }

    /// Waits for the last words of a process that has ended.
    fn hear_out(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }

    /// SIGHUP, and waits until the files were read again.
    pub(crate) fn reload(&mut self) {
        let count = |broker: &Self| broker.stderr().matches("files were read again").count();
        let before = count(self);
        self.signal(Signal::HUP);
        self.wait_for("the reload", |broker| count(broker) > before);
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// SIGSTOP: the process does not run until [`Broker::go_on`].
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process number"), signal).expect("our own child");
    }

    /// SIGKILL and start again on the same data and ports.
    pub(crate) fn crash(&mut self) {
        self.kill();
        self.start();
    }

    /// SIGTERM, end, and start again on the same data and ports.
    pub(crate) fn restart(&mut self) {
        self.terminate();
        let status = self.wait_end();
        assert!(status.success(), "stopped with {status}:\n{}", self.stderr());
        self.start();
    }

    /// Everything that the process wrote to stderr since it was started.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().expect("no panic while held").clone()
    }

    /// Status and body of an HTTP request.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    /// Status and body of the answer to an HTTP request that closes the connection.
    pub(crate) fn ask(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http).expect("HTTP is reachable");
        stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
        stream.write_all(request.as_bytes()).expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer in UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status line"), body.to_owned())
    }

    /// The JSON at `path` below `/api/v1`.
    pub(crate) fn api(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.get(&format!("/api/v1{path}"));
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// The value of a metric, written with its labels as on the page.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.get("/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {page}"))
    }

    /// Resident memory of the process in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.expect("VmRSS in kB") * 1024
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let stderr = self.stderr();
            let lines: Vec<&str> = stderr.lines().collect();
            let shown = &lines[lines.len().saturating_sub(STDERR_LINES_SHOWN)..];
            eprintln!("the broker's last words:\n{}", shown.join("\n"));
        }
    }
}

/// Runs the binary to its end with those arguments in `dir`; exit code, stdout and stderr.
pub(crate) fn run_to_end(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ledgermq"));
    let output = command.current_dir(dir).args(arguments).output().expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// A loopback address that nobody listens at, below the range from which outgoing connections take
/// their ports.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + u16::try_from(std::process::id() % 100).expect("below 100") * 100;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
