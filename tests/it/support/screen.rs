//! A terminal that a test drives by keys.

use super::{Home, LONG, can_run, text};

/// A terminal of tmux with a shell in it. It ends with its value.
pub struct Screen {
    pub home: Home,
}

impl Screen {
    /// Returns `None` where tmux is missing.
    #[track_caller]
    pub fn new(home: &Home, width: usize, height: usize) -> Option<Screen> {
        if !can_run(&["tmux", "-V"], "a terminal that is driven by keys") {
            return None;
        }
        let screen = Screen { home: home.clone() };
        let (width, height) = (width.to_string(), height.to_string());
        let shell = "env PS1='ready> ' bash --norc --noprofile";
        let output = screen.tmux(&["new-session", "-d", "-x", &width, "-y", &height, shell]);
        assert!(output.status.success(), "{output:?}");
        screen.wait_for("ready>");
        Some(screen)
    }

    pub fn tmux(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = self.home.command("tmux");
        command.arg("-u").arg("-S").arg(self.home.path().join("tmux")).args(["-f", "/dev/null"]);
        command.args(arguments).output().unwrap()
    }

    pub fn text(&self) -> String {
        text(&self.tmux(&["capture-pane", "-p"])).0
    }

    /// Types keys by their names in tmux.
    pub fn keys(&self, keys: &[&str]) {
        assert!(self.tmux(&[&["send-keys"], keys].concat()).status.success());
    }

    /// Types a command and waits for a word of its screen.
    pub fn run(&self, command: &str, expected: &str) {
        self.keys(&["-l", command]);
        self.keys(&["Enter"]);
        self.wait_for(expected);
    }

    #[track_caller]
    pub fn wait_for(&self, expected: &str) {
        self.wait_until(expected, |screen| screen.contains(expected));
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, condition: impl Fn(&str) -> bool) {
        let deadline = std::time::Instant::now() + LONG;
        loop {
            let screen = self.text();
            if condition(&screen) {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "never: {what}; the screen is\n{screen}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
