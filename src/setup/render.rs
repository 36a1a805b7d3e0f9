//! A recipe as text, Markdown or HTML. Whatever it holds, what is shown is what is meant: each format escapes all that it is given.

use super::{
    Block, Chapter, Filled, Mark, Recipe, Span,
    check::{Conclusion, Finding, Report},
};

/// Columns of text.
const COLUMNS: usize = 110;

/// A format: how its pieces are written.
trait Format {
    fn heading(&self, level: usize, words: &str) -> String;
    fn paragraph(&self, spans: &[Span]) -> String;
    fn step(&self, number: usize, spans: &[Span]) -> String;
    fn code(&self, block: &Block) -> String;
    fn aside(&self, words: &str) -> String;
}

/// A recipe as text for a terminal.
#[must_use]
pub fn text(recipe: &Recipe) -> String {
    whole(recipe, &Text)
}

/// A recipe in Markdown (`CommonMark`).
#[must_use]
pub fn markdown(recipe: &Recipe) -> String {
    whole(recipe, &Markdown)
}

/// A recipe as a page of HTML.
#[must_use]
pub fn html(recipe: &Recipe) -> String {
    page(&recipe.title, &whole(recipe, &Html))
}

fn page(title: &str, body: &str) -> String {
    let title = html_escaped(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n<body>\n{body}</body>\n</html>\n"
    )
}

/// What was found in exports, as text for a terminal.
#[must_use]
pub fn report_text(report: &Report) -> String {
    report_of(report, &Text)
}

/// The same in Markdown.
#[must_use]
pub fn report_markdown(report: &Report) -> String {
    report_of(report, &Markdown)
}

/// The same as a page of HTML.
#[must_use]
pub fn report_html(report: &Report) -> String {
    page(&report.title, &report_of(report, &Html))
}

fn report_of(report: &Report, format: &impl Format) -> String {
    let mut out = format.heading(1, &format!("{} ({}): what was exported", report.title, report.scanner));
    out.push_str(&format.aside(&format!("checked = {}: the day on which the documents named here were read last", report.checked)));
    let answer = match report.answer {
        Conclusion::Right => "All that was judged is as the recipe has it.",
        Conclusion::Wrong => "Not all is as the recipe has it.",
        Conclusion::CannotJudge => "Not all could be judged, so nothing here says that it is right.",
    };
    out.push_str(&format.paragraph(&[Span::Words(answer.into())]));
    for finding in &report.findings {
        out.push_str(&found(finding, format));
    }
    out
}

fn found(finding: &Finding, format: &impl Format) -> String {
    let field = if finding.field.is_empty() { String::new() } else { format!(": {}", finding.field) };
    let head =
        vec![Span::Words(format!("{}: ", finding.verdict.says())), Span::Code(format!("{}{field}", finding.at)), Span::Words(": ".into())];
    format.paragraph(&[head, sentence(&finding.what)].concat()) + &format.aside(finding.source)
}

fn whole(recipe: &Recipe, format: &impl Format) -> String {
    let mut out = format.heading(1, &format!("{} ({})", recipe.title, recipe.scanner));
    out.push_str(&format.aside(&format!("checked = {}: the day on which the documents named here were read last", recipe.checked)));
    out.push_str(&format.paragraph(&recipe.verdict));
    if !recipe.missing.is_empty() {
        out.push_str(&format.heading(2, "Missing"));
        for missing in &recipe.missing {
            out.push_str(&format.paragraph(&sentence(missing)));
        }
    }
    for chapter in &recipe.chapters {
        out.push_str(&chapter_of(chapter, format));
    }
    if !recipe.known.is_empty() {
        out.push_str(&format.heading(2, "What is known of it"));
        for statement in &recipe.known {
            out.push_str(&format.paragraph(&[Span::Words(format!("{}: {}", statement.about, statement.is))]));
            if let Some(mark) = &statement.mark {
                out.push_str(&format.aside(&marked(mark)));
            }
        }
    }
    out
}

fn chapter_of(chapter: &Chapter, format: &impl Format) -> String {
    let mut out = format.heading(2, chapter.title);
    for (at, step) in chapter.steps.iter().enumerate() {
        out.push_str(&step_of(at + 1, step, format));
    }
    out
}

fn step_of(number: usize, step: &Filled, format: &impl Format) -> String {
    let mut out = format.step(number, &step.say);
    if let Some(why) = &step.left_out {
        out.push_str(&format.paragraph(&[vec![Span::Words("Left out: ".into())], sentence(why)].concat()));
    }
    if let Some(block) = &step.code {
        if let Some(file) = &block.file {
            out.push_str(&format.aside(&format!("into {file}:")));
        }
        out.push_str(&format.code(block));
    }
    for note in &step.notes {
        out.push_str(&format.paragraph(&[vec![Span::Words("Note: ".into())], sentence(note)].concat()));
    }
    out.push_str(&format.aside(&marked(&step.mark)));
    out
}

fn marked(mark: &Mark) -> String {
    let sources = mark.sources.join(" , ");
    if sources.is_empty() { format!("[{}]", mark.sure) } else { format!("[{}] {sources}", mark.sure) }
}

/// A sentence of ours, with backticks around what is code.
fn sentence(text: &str) -> Vec<Span> {
    let part = |(at, part): (usize, &str)| if at % 2 == 1 { Span::Code(part.to_owned()) } else { Span::Words(part.to_owned()) };
    text.split('`').enumerate().map(part).filter(|span| !matches!(span, Span::Words(words) if words.is_empty())).collect()
}

/// For a terminal.
struct Text;

impl Text {
    fn wrapped(first: &str, next: &str, spans: &[Span]) -> String {
        let text: String = spans.iter().map(Span::text).collect();
        let (mut out, mut line, mut is_empty) = (String::new(), first.to_owned(), true);
        for word in text.split_whitespace() {
            if !is_empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
                out.push_str(line.trim_end());
                out.push('\n');
                (line, is_empty) = (next.to_owned(), true);
            }
            if !is_empty {
                line.push(' ');
            }
            line.push_str(word);
            is_empty = false;
        }
        format!("{out}{}\n", line.trim_end())
    }
}

impl Format for Text {
    fn heading(&self, level: usize, words: &str) -> String {
        let line = words.chars().map(|_| if level == 1 { '=' } else { '-' }).collect::<String>();
        format!("{}{words}\n{line}\n", if level == 1 { "" } else { "\n" })
    }

    fn paragraph(&self, spans: &[Span]) -> String {
        Self::wrapped("", "", spans)
    }

    fn step(&self, number: usize, spans: &[Span]) -> String {
        format!("\n{}", Self::wrapped(&format!("{number}. "), "", spans))
    }

    fn code(&self, block: &Block) -> String {
        block.text.lines().map(|line| format!("    {line}").trim_end().to_owned() + "\n").collect()
    }

    fn aside(&self, words: &str) -> String {
        format!("  {words}\n")
    }
}

/// For a ticket that knows Markdown.
struct Markdown;

impl Markdown {
    fn inline(spans: &[Span]) -> String {
        let one = |span: &Span| match span {
            Span::Words(words) => markdown_escaped(words),
            Span::Code(code) => {
                let fence = "`".repeat(1 + longest_run(code));
                let pad = if code.starts_with(['`', ' ']) || code.ends_with(['`', ' ']) || code.is_empty() { " " } else { "" };
                format!("{fence}{pad}{code}{pad}{fence}")
            }
        };
        spans.iter().map(one).collect()
    }
}

impl Format for Markdown {
    fn heading(&self, level: usize, words: &str) -> String {
        format!("{}{} {}\n\n", if level == 1 { "" } else { "\n" }, "#".repeat(level), markdown_escaped(words))
    }

    fn paragraph(&self, spans: &[Span]) -> String {
        format!("{}\n\n", Self::inline(spans))
    }

    fn step(&self, number: usize, spans: &[Span]) -> String {
        format!("**{number}.** {}\n\n", Self::inline(spans))
    }

    fn code(&self, block: &Block) -> String {
        let fence = "`".repeat(3.max(1 + longest_run(&block.text)));
        format!("{fence}{}\n{}\n{fence}\n\n", block.language, block.text)
    }

    fn aside(&self, words: &str) -> String {
        format!("*{}*\n\n", markdown_escaped(words))
    }
}

fn longest_run(text: &str) -> usize {
    text.split(|letter| letter != '`').map(str::len).max().unwrap_or_default()
}

/// Words that mean nothing to Markdown, nor to HTML within it. An address stays one that can be clicked.
fn markdown_escaped(words: &str) -> String {
    let one = |word: &str| {
        let is_address =
            word.starts_with("https://") && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/.-_?=#%".contains(&byte));
        if is_address {
            return format!("<{word}>");
        }
        let letter = |letter: char| {
            if letter.is_ascii_punctuation() && !",.:;'\"/()%?=@".contains(letter) { format!("\\{letter}") } else { letter.into() }
        };
        word.chars().map(letter).collect()
    };
    words.split(' ').map(one).collect::<Vec<_>>().join(" ")
}

/// For a ticket that knows HTML.
struct Html;

impl Html {
    fn inline(spans: &[Span]) -> String {
        let one = |span: &Span| match span {
            Span::Words(words) => html_escaped(words),
            Span::Code(code) => format!("<code>{}</code>", html_escaped(code)),
        };
        spans.iter().map(one).collect()
    }
}

impl Format for Html {
    fn heading(&self, level: usize, words: &str) -> String {
        format!("<h{level}>{}</h{level}>\n", html_escaped(words))
    }

    fn paragraph(&self, spans: &[Span]) -> String {
        format!("<p>{}</p>\n", Self::inline(spans))
    }

    fn step(&self, number: usize, spans: &[Span]) -> String {
        format!("<p><b>{number}.</b> {}</p>\n", Self::inline(spans))
    }

    fn code(&self, block: &Block) -> String {
        format!("<pre><code>{}</code></pre>\n", html_escaped(&block.text))
    }

    fn aside(&self, words: &str) -> String {
        format!("<p><small>{}</small></p>\n", html_escaped(words))
    }
}

fn html_escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
