//! Programs that do not outlive their run: a process group of its own, heard line by line, gone when the run is over,
//! however it ends. Used by the agent for its plug-ins, and by the conductor for playbooks.

use std::collections::VecDeque;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long a program that is told to stop may take to leave things in order.
const GRACE: Duration = Duration::from_secs(5);

/// Longest line that is read; what is beyond it is dropped.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Lines of standard error that are kept for the failure.
const LINES_KEPT: usize = 10;

/// Longest of these.
const KEPT_CHARACTERS_MAX: usize = 400;

/// By this in its environment a process is known to be of a run, also when it has left the group.
const MARK: &str = "BESSEMER_RUN";

/// How often whoever started a watched program says that it lives.
const BEAT: Duration = Duration::from_millis(500);

/// Runs the program behind it, and kills all that is of the run when nothing has come on standard input for three seconds: when
/// whoever started it is gone, or stands still.
const WATCH: &str = r#"
exec 3<&0
"$@" 3<&- </dev/null &
work=$!
(
    while [ "$(timeout --foreground 3 head -c 1 <&3 | wc -c)" -eq 1 ]; do :; done
    # First, so that it does not pass on what the others' end leads to.
    kill -s KILL $$
    for process in /proc/[0-9]*; do
        group=$(sed 's/.*) //' "$process/stat" 2>/dev/null | cut -d ' ' -f 3)
        if [ "$group" != $$ ] && tr '\0' '\n' <"$process/environ" 2>/dev/null | grep -qx "BESSEMER_RUN=$BESSEMER_RUN"; then
            kill -s KILL "${process#/proc/}"
        fi
    done
    kill -s KILL 0
) 2>/dev/null &
watch=$!
exec 3<&-
wait "$work"
status=$?
kill "$watch"
exit "$status"
"#;

/// A program that runs.
#[derive(Debug)]
pub struct Process {
    child: Child,
    group: Group,
    is_watched: bool,
}

/// A process group, and those that have left it, that do not outlive this.
#[derive(Debug)]
struct Group {
    id: Option<Pid>,
    mark: String,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.id {
            // One that is gone is as good.
            kill_process_group(group, signal).ok();
        }
    }

    /// Kills the group, and those of its processes that have made groups of their own: Ansible's workers do.
    fn kill(&self) {
        self.signal(Signal::KILL);
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let is_ours = environment.split(|byte| *byte == 0).any(|it| it == self.mark.as_bytes());
            if let Some(pid) = pid.and_then(Pid::from_raw).filter(|_| is_ours) {
                kill_process(pid, Signal::KILL).ok();
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Why a run was cut off.
#[derive(Debug)]
pub enum Cut {
    /// Nobody wants it any more.
    Stopped,
    /// It took too long.
    TimedOut,
    /// It cannot be waited for.
    Io(io::Error),
}

/// The last lines of standard error.
#[derive(Debug, Default)]
pub struct LastWords(VecDeque<String>);

impl LastWords {
    fn hear(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        if line.is_empty() {
            return;
        }
        if self.0.len() == LINES_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(line.chars().take(KEPT_CHARACTERS_MAX).collect());
    }

    /// As the end of an error; nothing when nothing was said.
    #[must_use]
    pub fn as_reason(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let lines: Vec<_> = self.0.iter().map(String::as_str).collect();
        format!(": {}", lines.join("\n"))
    }
}

impl Process {
    /// Starts a program.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: Command) -> io::Result<Self> {
        Self::start(command, false)
    }

    /// Starts a program that is killed, with all that it started, also when this process is, or stands still for three
    /// seconds. It reads nothing.
    ///
    /// # Errors
    /// When there is no `/bin/sh`. A program that cannot be started ends with status 127.
    pub fn spawn_watched(command: Command) -> io::Result<Self> {
        let program = command.as_std();
        let mut watch = Command::new("/bin/sh");
        watch.args(["-c", WATCH, "sh"]).arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => watch.env(name, value),
                None => watch.env_remove(name),
            };
        }
        if let Some(directory) = program.get_current_dir() {
            watch.current_dir(directory);
        }
        Self::start(watch, true)
    }

    fn start(mut command: Command, is_watched: bool) -> io::Result<Self> {
        let run = Uuid::new_v4().to_string();
        let child = command
            .env(MARK, &run)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let group = Group { id: pid, mark: format!("{MARK}={run}") };
        Ok(Self { child, group, is_watched })
    }

    /// The id of the process, and of its group.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Gives it `input`, hears every line that it prints, and waits for its end. Whatever it leaves running is killed; so is
    /// the program when this is dropped half way.
    ///
    /// # Errors
    /// [`Cut`] when it did not end by itself.
    pub async fn finish(
        mut self,
        input: Vec<u8>,
        limit: Duration,
        stop: &CancellationToken,
        mut hear: impl FnMut(&[u8]),
    ) -> Result<(ExitStatus, LastWords), Cut> {
        let group = &self.group;
        let (stdin, stdout, stderr) =
            (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take());
        let mut last_words = LastWords::default();
        let (child, is_watched) = (&mut self.child, self.is_watched);
        let run = async {
            let write = async {
                let Some(mut stdin) = stdin else { return };
                if !is_watched {
                    // A program need not read what it is told.
                    stdin.write_all(&input).await.ok();
                    return;
                }
                // Whoever watches is gone when the run is over.
                while stdin.write_all(b"\n").await.is_ok() {
                    tokio::time::sleep(BEAT).await;
                }
            };
            let print = for_each_line(stdout, &mut hear);
            let complain = for_each_line(stderr, |line| {
                tracing::info!(line = %String::from_utf8_lossy(line), "program says");
                last_words.hear(line);
            });
            let end = async {
                let status = child.wait().await;
                group.kill();
                status
            };
            let rest = async { tokio::join!(print, complain, end).2 };
            tokio::pin!(write, rest);
            let mut is_written = false;
            loop {
                tokio::select! {
                    status = &mut rest => break status,
                    () = &mut write, if !is_written => is_written = true,
                }
            }
        };
        let mut run = Box::pin(run);
        let cut = tokio::select! {
            ended = &mut run => Ok(ended),
            () = stop.cancelled() => Err(Cut::Stopped),
            () = tokio::time::sleep(limit) => Err(Cut::TimedOut),
        };
        if cut.is_err() {
            group.signal(Signal::TERM);
            if tokio::time::timeout(GRACE, &mut run).await.is_err() {
                group.kill();
                (&mut run).await.ok();
            }
        }
        drop(run);
        let status = cut?.map_err(Cut::Io)?;
        Ok((status, last_words))
    }
}

/// Calls `hear` with every line, without its end.
async fn for_each_line(from: Option<impl AsyncRead + Unpin>, mut hear: impl FnMut(&[u8])) {
    let Some(from) = from else { return };
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        let (taken, is_whole) = match reader.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(bytes) => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                let part = &bytes[..end.unwrap_or(bytes.len())];
                let room = LINE_BYTES_MAX.saturating_sub(line.len()).min(part.len());
                line.extend_from_slice(&part[..room]);
                (end.map_or(bytes.len(), |end| end + 1), end.is_some())
            }
        };
        reader.consume(taken);
        if is_whole {
            hear(&line);
            line.clear();
        }
    }
    if !line.is_empty() {
        hear(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(
        script: &str,
        limit: Duration,
        stop: &CancellationToken,
    ) -> (Result<(ExitStatus, LastWords), Cut>, Vec<String>) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let mut heard = Vec::new();
        let hear = |line: &[u8]| heard.push(String::from_utf8_lossy(line).into_owned());
        let ended = Process::spawn(command).unwrap().finish(b"told\n".to_vec(), limit, stop, hear);
        (ended.await, heard)
    }

    const LONG: Duration = Duration::from_secs(60);

    /// The kernel closes what a killed process had open before it is gone.
    async fn until_gone(pid: &str) {
        let is_gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.map_or(true, |stat| stat.contains(") Z "))
        };
        let deadline = std::time::Instant::now() + LONG;
        while !is_gone() {
            assert!(std::time::Instant::now() < deadline, "{pid} still runs");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn it_is_told_heard_and_its_end_is_known() {
        let stop = CancellationToken::new();
        let script = "cat; printf unfinished; echo trouble >&2; exit 4";
        let (ended, heard) = run(script, LONG, &stop).await;
        let (status, last_words) = ended.unwrap();
        assert_eq!(status.code(), Some(4));
        assert_eq!(heard, ["told", "unfinished"]);
        assert_eq!(last_words.as_reason(), ": trouble");
    }

    #[tokio::test]
    async fn what_it_leaves_running_does_not_outlive_it() {
        let stop = CancellationToken::new();
        // The one left behind has standard output open: as long as it lives, there is no end of it.
        let (ended, heard) = run("sleep 1000 & echo $!", LONG, &stop).await;
        assert!(ended.unwrap().0.success());
        until_gone(&heard[0]).await;
    }

    #[tokio::test]
    async fn stopped_or_over_time_it_is_told_to_end_and_killed_if_it_does_not() {
        let stop = CancellationToken::new();
        let (ended, heard) = run(
            "trap 'echo bye; exit' TERM; while :; do sleep 0.01; done",
            Duration::from_millis(200),
            &stop,
        )
        .await;
        assert!(matches!(ended, Err(Cut::TimedOut)), "{ended:?}");
        assert_eq!(heard, ["bye"]);
        stop.cancel();
        let (ended, _) = run("trap '' TERM; while :; do sleep 0.01; done", LONG, &stop).await;
        assert!(matches!(ended, Err(Cut::Stopped)), "{ended:?}");
    }

    #[tokio::test]
    async fn what_has_left_the_group_is_killed_with_it() {
        let stop = CancellationToken::new();
        let (ended, heard) = run("setsid sleep 1000 & echo $!; sleep 0.1", LONG, &stop).await;
        assert!(ended.unwrap().0.success());
        until_gone(&heard[0]).await;
    }

    #[tokio::test]
    async fn dropped_half_way_it_is_killed() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 1000 & echo $!; wait"]);
        let (told, mut first) = tokio::sync::mpsc::unbounded_channel();
        let hear = |line: &[u8]| told.send(String::from_utf8_lossy(line).into_owned()).unwrap();
        let stop = CancellationToken::new();
        let run = Process::spawn(command).unwrap().finish(Vec::new(), LONG, &stop, hear);
        let pid = tokio::select! {
            ended = run => panic!("{ended:?}"),
            pid = first.recv() => pid.unwrap(),
        };
        until_gone(&pid).await;
    }

    #[tokio::test]
    async fn watched_it_ends_with_its_own_status_and_reads_nothing() {
        let stop = CancellationToken::new();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "cat; echo \"$WORD $(pwd)\"; exit 9"])
            .env("WORD", "a b")
            .current_dir("/");
        let mut heard = Vec::new();
        let hear = |line: &[u8]| heard.push(String::from_utf8_lossy(line).into_owned());
        let run = Process::spawn_watched(command).unwrap();
        let (status, _) = run.finish(b"told\n".to_vec(), LONG, &stop, hear).await.unwrap();
        assert_eq!((status.code(), heard), (Some(9), vec!["a b /".to_owned()]));

        let missing = Process::spawn_watched(Command::new("/no/such/program")).unwrap();
        let (status, said) = missing.finish(Vec::new(), LONG, &stop, |_| ()).await.unwrap();
        assert_eq!(status.code(), Some(127));
        assert!(said.as_reason().contains("/no/such/program"), "{}", said.as_reason());
    }

    #[tokio::test]
    async fn watched_it_dies_with_who_started_it() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 1000 & echo $!; wait"]);
        let mut process = Process::spawn_watched(command).unwrap();
        let mut lines = BufReader::new(process.child.stdout.take().unwrap()).lines();
        let pid = lines.next_line().await.unwrap().unwrap();
        // As when this process is killed: nothing is sent, the pipe just ends.
        drop(process.child.stdin.take());
        until_gone(&pid).await;
    }

    #[tokio::test]
    async fn watched_it_does_not_outlive_a_standstill_of_who_started_it() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "setsid sleep 1000 & echo $!; wait"]);
        let mut process = Process::spawn_watched(command).unwrap();
        let mut lines = BufReader::new(process.child.stdout.take().unwrap()).lines();
        let pid = lines.next_line().await.unwrap().unwrap();
        // Nobody calls `finish`, so nobody says that they live; the pipe stays open.
        until_gone(&pid).await;
        assert!(process.child.wait().await.unwrap().code().is_none());
    }

    #[tokio::test]
    async fn watched_it_goes_on_for_as_long_as_who_started_it_lives() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 5; echo done"]);
        let mut heard = Vec::new();
        let hear = |line: &[u8]| heard.push(String::from_utf8_lossy(line).into_owned());
        let run = Process::spawn_watched(command).unwrap();
        let stop = CancellationToken::new();
        let (status, _) = run.finish(Vec::new(), LONG, &stop, hear).await.unwrap();
        assert_eq!((status.code(), heard), (Some(0), vec!["done".to_owned()]));
    }
}
