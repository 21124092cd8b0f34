//! Headless Chromium, by its DevTools protocol on two pipes.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{program, text, Folder};

pub struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    /// The tab that was opened.
    session: String,
    number: u32,
    folder: Folder,
}

impl Browser {
    /// Opens a page. `None` if Chromium is missing, which is printed.
    pub fn open(name: &str, address: &str) -> Option<Self> {
        program("chromium", &["--version"], &[])?;
        let folder = Folder::new(name);
        let (to, from) = (folder.path("to"), folder.path("from"));
        for pipe in [&to, &from] {
            nix::unistd::mkfifo(pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        // The protocol is on descriptors 3 and 4.
        let line = "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage \
            --remote-debugging-pipe --window-size=1200,800 --user-data-dir=\"$3\" about:blank 3<\"$1\" 4>\"$2\"";
        let mut command = Command::new("sh");
        command.args(["-c", line, "sh", text(&to), text(&from), text(&folder.path("profile"))]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let to = File::options().write(true).open(to).unwrap();
        let from = BufReader::new(File::open(from).unwrap());
        let mut browser = Self { child, to, from, session: String::new(), number: 0, folder };
        let target = browser.ask("Target.createTarget", "\"url\":\"about:blank\"");
        let target = string(&target, "targetId").expect("a target");
        let attached = browser.ask("Target.attachToTarget", &format!("\"targetId\":\"{target}\",\"flatten\":true"));
        browser.session = string(&attached, "sessionId").expect("a session");
        browser.ask("Page.navigate", &format!("\"url\":\"{address}\""));
        Some(browser)
    }

    /// Calls a method. Returns the answer.
    fn ask(&mut self, method: &str, parameters: &str) -> String {
        self.number += 1;
        let session = match &*self.session {
            "" => String::new(),
            session => format!(",\"sessionId\":\"{session}\""),
        };
        let number = self.number;
        let message = format!("{{\"id\":{number},\"method\":\"{method}\",\"params\":{{{parameters}}}{session}}}\0");
        self.to.write_all(message.as_bytes()).unwrap();
        let begin = format!("{{\"id\":{number},");
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).unwrap();
            assert!(!bytes.is_empty(), "Chromium has ended");
            let answer = String::from_utf8_lossy(&bytes).into_owned();
            if answer.starts_with(&begin) {
                assert!(!answer.contains("\"error\":"), "{method}: {answer}");
                return answer;
            }
        }
    }

    /// The value of an expression as a string.
    pub fn value(&mut self, expression: &str) -> String {
        let expression = format!("String({expression})").replace('\\', "\\\\").replace('"', "\\\"");
        let parameters = format!("\"expression\":\"{expression}\",\"returnByValue\":true");
        let answer = self.ask("Runtime.evaluate", &parameters);
        string(&answer, "value").unwrap_or_else(|| panic!("{answer}"))
    }

    /// Waits until an expression is `true`.
    pub fn wait(&mut self, expression: &str) {
        let begun = Instant::now();
        while self.value(expression) != "true" {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{expression} stays false: {}",
                self.value("document.body.innerText")
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Takes a picture of the page. Returns its path.
    pub fn screenshot(&mut self) -> PathBuf {
        let answer = self.ask("Page.captureScreenshot", "\"format\":\"png\"");
        let coded = string(&answer, "data").unwrap();
        let out = program("base64", &["-d"], coded.as_bytes()).unwrap();
        let path =
            std::env::var_os("FRAMELEASE_SCREENSHOT").map_or_else(|| self.folder.path("page.png"), PathBuf::from);
        std::fs::write(&path, out.stdout).unwrap();
        path
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The string with this name in JSON, without escapes.
fn string(json: &str, name: &str) -> Option<String> {
    let rest = json.split(&format!("\"{name}\":\"")).nth(1)?;
    Some(rest.split('"').next()?.to_owned())
}
