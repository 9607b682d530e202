//! Results as one page that needs nothing else: no script runs, nothing is fetched.
//!
//! The documents lie in it as well, so that the page can be read back, merged and compared.
//!
//! Must not know: where the page is written to.

use std::fmt::Write as _;

use crate::format::{float, one_time, thousands, whole};
use crate::plot::{PlotError, label, plots};
use crate::report::{Shown, summary};
use crate::result::{DATA_END, DATA_START, Document, to_json};

/// The page of these results.
///
/// # Errors
/// [`PlotError`] where a plot cannot be drawn.
pub fn page(documents: &[Document]) -> Result<String, PlotError> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>hp-bench</h1>\n",
        escaped(&title(documents)),
    );
    overview(&mut page, documents);
    for plot in plots(documents)? {
        let _infallible = writeln!(page, "<figure id=\"{}\">\n{}</figure>", plot.name, plot.svg);
    }
    for document in documents {
        let shown = Shown::of(document).map_err(PlotError::Histogram)?;
        let heading = escaped(&label(document));
        let text = escaped(&summary(&shown));
        let _infallible = writeln!(page, "<h2>{heading}</h2>\n<pre>{text}</pre>");
        errors(&mut page, document);
        environment(&mut page, document);
    }
    for document in documents {
        let _infallible = writeln!(page, "{DATA_START}{}{DATA_END}", inert(&to_json(document)));
    }
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

fn title(documents: &[Document]) -> String {
    match documents {
        [one] => format!("hp-bench: {}", label(one)),
        several => format!("hp-bench: {} results", several.len()),
    }
}

/// A row for each result, so that several compare at a glance.
fn overview(page: &mut String, documents: &[Document]) {
    page.push_str(
        "<table>\n<tr><th>target<th>connections<th>requests/s<th>p50<th>p99<th>p99.9<th>max<th>errors\
         <th>CPU/request\n",
    );
    for document in documents {
        let latency = &document.latency_ns;
        let quantile = |name| {
            latency
                .p
                .get(name)
                .map_or_else(String::new, |&nanos| one_time(float(nanos)))
        };
        let errors = document
            .errors
            .values()
            .fold(0, |sum: u64, count| sum.saturating_add(*count));
        let target = document.target_cost.as_ref();
        let cost = target.and_then(|cost| cost.cpu_ns_per_req);
        let cells = [
            escaped(&label(document)),
            thousands(document.plan.connections.into()),
            thousands(whole(document.run.rps)),
            quantile("50"),
            quantile("99"),
            quantile("99.9"),
            one_time(float(latency.max)),
            thousands(errors),
            cost.map_or_else(String::new, |nanos| one_time(float(nanos))),
        ];
        let _infallible = writeln!(page, "<tr><td>{}", cells.join("<td>"));
    }
    page.push_str("</table>\n");
}

fn errors(page: &mut String, document: &Document) {
    if document.errors.is_empty() {
        return;
    }
    page.push_str("<table>\n<tr><th>error<th>count\n");
    for (class, count) in &document.errors {
        let _infallible = writeln!(page, "<tr><td>{}<td>{}", escaped(class), thousands(*count));
    }
    page.push_str("</table>\n");
}

fn environment(page: &mut String, document: &Document) {
    let tool = &document.tool;
    let steal = document
        .machine
        .as_ref()
        .and_then(|machine| machine.steal_pct);
    let rows = [
        ("started", document.started.clone()),
        (
            "tool",
            format!(
                "{} {} {}",
                tool.name,
                tool.version,
                tool.commit.as_deref().unwrap_or_default()
            ),
        ),
        ("engine", tool.engine.clone()),
        ("address", document.target.addr.clone()),
        ("threads", document.plan.threads.to_string()),
        (
            "steal",
            steal.map_or_else(String::new, |percent| format!("{percent:.1} %")),
        ),
    ];
    page.push_str("<table>\n");
    for (name, value) in rows.iter().filter(|(_, value)| !value.trim().is_empty()) {
        let _infallible = writeln!(page, "<tr><th>{name}<td>{}", escaped(value));
    }
    page.push_str("</table>\n");
}

/// Text that is no markup.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// JSON that cannot end its element or begin another: these characters stand in texts only, where JSON has
/// another spelling for them.
fn inert(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

const STYLE: &str = ":root{--ink:#1c1c1c;--ground:#fff;--rule:#ddd}\
    @media(prefers-color-scheme:dark){:root{--ink:#dcdcdc;--ground:#161616;--rule:#3a3a3a}}\
    body{color:var(--ink);background:var(--ground);font:15px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    svg{max-width:100%;height:auto}figure{margin:1rem 0}pre{overflow-x:auto}\
    table{border-collapse:collapse;margin:1rem 0}td,th{border-bottom:1px solid var(--rule);padding:.2rem .8rem .2rem 0;\
    text-align:left;font-variant-numeric:tabular-nums}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{SCHEMA, parse_all};

    fn hostile() -> Document {
        let mut document = Document {
            schema: SCHEMA.to_owned(),
            started: "</script><script>alert(1)</script>".to_owned(),
            ..Document::default()
        };
        document.target.url = "http://a/?<img src=x onerror=\"alert(1)\">&'".to_owned();
        document.tool.engine = "<!-- ".to_owned();
        document.errors.insert("<i>".to_owned(), 3);
        document.verdict.notes.push("</pre><b>".to_owned());
        document
    }

    #[test]
    fn page_is_read_back_as_its_documents() {
        let mut other = hostile();
        other.run.responses = 7;
        let documents = [hostile(), other];
        let page = page(&documents).unwrap();
        assert_eq!(parse_all(&page).unwrap(), documents);
    }

    #[test]
    fn nothing_in_a_result_becomes_markup() {
        let page = page(&[hostile()]).unwrap();
        assert_eq!(page.matches("<script").count(), 1);
        assert_eq!(page.matches("</script").count(), 1);
        for markup in ["<img", "<!-- ", "<i>", "</pre><b>", "<b>"] {
            assert!(!page.contains(markup), "{markup}");
        }
    }

    #[test]
    fn page_fetches_nothing() {
        let mut document = hostile();
        document.target.url = "a".to_owned();
        let page = page(&[document]).unwrap();
        for word in ["src=", "href=", "@import", "url("] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
