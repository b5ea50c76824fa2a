//! Turns samples into figures, and figures into a table with bars.

/// Returns the `q` quantile of `samples`, which need not be sorted.
pub fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (q * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// One line of the result: a figure and its limit.
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    pub bar: Bar,
    pub note: String,
}

#[derive(Clone, Copy)]
pub enum Bar {
    AtMost(f64),
    AtLeast(f64),
    /// For information, without a limit.
    None,
}

impl Bar {
    /// Returns true if `new` replaces `old`: the better value, but the worse one of a count that must be 0.
    /// Without a bar the newer value counts.
    fn prefers(self, new: f64, old: f64) -> bool {
        match self {
            Bar::AtMost(0.0) => new > old,
            Bar::AtMost(_) => new < old,
            Bar::AtLeast(_) => new > old,
            Bar::None => true,
        }
    }

    /// Returns true if `value` keeps the bar loosened by `slack` (1: the bar itself, 2: twice as bad).
    fn holds(self, value: f64, slack: f64) -> bool {
        match self {
            Bar::AtMost(limit) => value <= limit * slack,
            Bar::AtLeast(limit) => value >= limit / slack,
            Bar::None => true,
        }
    }

    fn text(self) -> String {
        match self {
            Bar::AtMost(limit) => format!("<= {limit}"),
            Bar::AtLeast(limit) => format!(">= {limit}"),
            Bar::None => String::new(),
        }
    }
}

#[derive(Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// Adds a figure. If one of that name exists, the bar says which of the two stays.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        bar: Bar,
        note: impl Into<String>,
    ) {
        let figure = Figure { name: name.into(), value, unit, bar, note: note.into() };
        eprintln!("{}", line(&figure));
        match self.0.iter_mut().find(|old| old.name == figure.name) {
            Some(old) if figure.bar.prefers(figure.value, old.value) => *old = figure,
            Some(_) => {}
            None => self.0.push(figure),
        }
    }

    /// Returns the number of bars that do not hold with `slack`.
    pub fn past(&self, slack: f64) -> usize {
        self.0.iter().filter(|figure| !figure.bar.holds(figure.value, slack)).count()
    }

    /// Prints the table as Markdown.
    pub fn print(&self) {
        println!("| figure | value | bar | | |\n| --- | ---: | ---: | --- | --- |");
        for figure in &self.0 {
            println!("{}", line(figure));
        }
    }
}

fn line(figure: &Figure) -> String {
    let verdict = match figure.bar {
        Bar::None => "",
        bar if bar.holds(figure.value, 1.0) => "ok",
        bar if bar.holds(figure.value, 2.0) => "**over**",
        _ => "**over twice**",
    };
    let Figure { name, value, unit, bar, note } = figure;
    format!("| {name} | {value:.3} {unit} | {} | {verdict} | {note} |", bar.text())
}
