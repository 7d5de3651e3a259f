//! Processes that end with the test that started them: on a pass, on a panic, and when the test runner itself is killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A command and where to answer with its process.
type Order = (Command, SyncSender<std::io::Result<Child>>);

/// One running process, its output in a file.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What a command that ran to its end has left.
pub struct Finished {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Process {
    /// Starts `program`; standard output and error go to the file `log`.
    pub fn start(program: &str, args: &[String], log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let mut command = tied(program, args);
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let child = spawn(command).unwrap_or_else(|e| panic!("{program} does not start: {e}"));
        Self {
            name: program.to_owned(),
            child,
            log: log.to_owned(),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        // It may have ended just now: then there is nobody to tell.
        let _ = kill_process(pid, signal);
    }

    /// The process gets no processor until `thaw`: its sockets stay open, nobody answers.
    pub fn freeze(&self) {
        self.send(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.send(Signal::CONT);
    }

    pub fn ask_to_end(&self) {
        self.send(Signal::TERM);
    }

    pub fn hang_up(&self) {
        self.send(Signal::HUP);
    }

    pub fn kill(&mut self) {
        self.send(Signal::KILL);
        let _ = self.child.wait();
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the end of the process; after `within` it is killed and the test fails.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            if Instant::now() > deadline {
                self.kill();
                panic!("{} still ran after {within:?}\n{}", self.name, self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!(
                "--- last lines of {} ({})\n{}",
                self.name,
                self.log.display(),
                self.log_tail()
            );
        }
    }
}

/// Runs `program` to its end with `input` on its standard input; fails the test when it takes longer than `within`.
pub fn run(program: &str, args: &[String], input: &str, within: Duration) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("in"), input).unwrap();
    let mut command = tied(program, args);
    command
        .stdin(File::open(path("in")).unwrap())
        .stdout(File::create(path("out")).unwrap())
        .stderr(File::create(path("err")).unwrap());
    let child = spawn(command).unwrap_or_else(|e| panic!("{program} does not start: {e}"));
    let mut process = Process {
        name: program.to_owned(),
        child,
        log: path("err"),
    };
    let status = process.wait(within).code();
    let text = |name: &str| String::from_utf8_lossy(&std::fs::read(path(name)).unwrap()).into_owned();
    Finished {
        status,
        stdout: text("out"),
        stderr: text("err"),
    }
}

/// The command under `setpriv`, so that the kernel ends it when the thread that spawned it is gone.
fn tied(program: &str, args: &[String]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]).args(args);
    command
}

/// Spawns from one thread that lives as long as the test runner: the kernel's signal at a parent's death goes by
/// thread, and a test's own thread ends with the test, while a Kafka that tests share must not.
fn spawn(command: Command) -> std::io::Result<Child> {
    static KEEPER: OnceLock<SyncSender<Order>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (orders, inbox) = sync_channel::<Order>(64);
        std::thread::spawn(move || {
            while let Ok((mut command, answer)) = inbox.recv() {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, child) = sync_channel(1);
    keeper.send((command, answer)).unwrap();
    child.recv().unwrap()
}
