//! What a browser's parser finds in HTML: html5ever builds the tree, and whatever in it leads somewhere must be known here.

use firstclick::message::html;
use html5ever::{ParseOpts, parse_document, tendril::TendrilSink};
use markup5ever_rcdom::{Handle, NodeData, RcDom};

/// The same numbers on every machine.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }

    fn pick<'l>(&mut self, list: &[&'l str]) -> &'l str {
        list.get(self.below(list.len())).unwrap()
    }
}

const PIECES: &[&str] = &[
    "<a href=\"URL\">",
    "<a href='URL'>",
    "<a href=URL>",
    "<A HREF = \"URL\" >",
    "<a/href=\"URL\">",
    "<a class=x\nhref=\"URL\"id=y>",
    "</a>",
    "</A >",
    "<area href=\"URL\">",
    "<form action=\"URL\">",
    "</form>",
    "<button formaction=\"URL\">",
    "<input type=submit formaction=URL>",
    "</button>",
    "<meta http-equiv=refresh content=\"0;url=URL\">",
    "<meta http-equiv=\"&#82;efresh\" content='0; URL'>",
    "<base href=\"URL\">",
    "<svg>",
    "</svg>",
    "<svg><a xlink:href=\"URL\">",
    "<math>",
    "</math>",
    "<mi href=URL>",
    "<foreignObject>",
    "</foreignObject>",
    "<desc>",
    "<mtext>",
    "<annotation-xml encoding=\"text/html\">",
    "<title>",
    "</title>",
    "<textarea>",
    "</textarea>",
    "<style>",
    "</style>",
    "<script>",
    "</script>",
    "<noscript>",
    "</noscript>",
    "<xmp>",
    "</xmp>",
    "<noembed>",
    "</noembed>",
    "<noframes>",
    "</noframes>",
    "<iframe>",
    "</iframe>",
    "<plaintext>",
    "<template>",
    "</template>",
    "<select>",
    "</select>",
    "<option>",
    "<table>",
    "</table>",
    "<tr>",
    "<td>",
    "</td>",
    "<caption>",
    "<p>",
    "</p>",
    "<!--",
    "-->",
    "--!>",
    "<!-->",
    "<!--->",
    "<!--[if mso]>",
    "<![endif]-->",
    "<![if !mso]>",
    "<![endif]>",
    "<!-- x -- y",
    "<![CDATA[",
    "]]>",
    "<?xml ?>",
    "<!doctype html>",
    "<html>",
    "<head>",
    "</head>",
    "<body>",
    "</body>",
    "</html>",
    "<br>",
    "</br>",
    "<b>",
    "</b>",
    "<i>",
    "<div>",
    "</div>",
    "text",
    "\"",
    "'",
    ">",
    "<",
    "</",
    "&quot;",
    "&lt;a href=URL&gt;",
    "<x y=\"",
    "<x y='",
    "<x y=",
    " z=\"URL\"",
    "<img alt=\"<a href=URL>\">",
    "\u{0}",
    "=",
    "<frameset>",
    "<frame src=URL>",
    "<embed src=URL>",
    "<object data=URL>",
    "<applet code=URL>",
    "<isindex>",
    "<image src=x>",
    "<keygen>",
    "<marquee>",
    "<a href=\"URL\" href=\"URL\">",
    "<a\u{c}href=URL>",
    "<a href\n=\nURL>",
    "<a href=\"&#104;ttps://h.test/e\">",
    "<a HREF=\"URL\u{0}\">",
    "<nobr>",
    "<ruby><rt>",
];

fn document(numbers: &mut Numbers) -> String {
    let mut html = String::new();
    for count in 0..2 + numbers.below(14) {
        let url = format!("https://h{count}.test/{}", numbers.below(100));
        html.push_str(&numbers.pick(PIECES).replace("URL", &url));
        if numbers.below(4) == 0 {
            html.push(' ');
        }
    }
    html
}

/// Every address in the tree that a press leads to, and whether something acts by itself.
fn led_to(node: &Handle, found: &mut Vec<String>, active: &mut Vec<String>) {
    let mut nodes = vec![node.clone()];
    while let Some(node) = nodes.pop() {
        if let NodeData::Element { name, attrs, template_contents, .. } = &node.data {
            let element = name.local.to_string();
            let attrs = attrs.borrow();
            let attribute = |key: &str| attrs.iter().find(|attr| *attr.name.local == *key).map(|attr| attr.value.to_string());
            for key in ["href", "xlink:href"] {
                if let Some(value) = attribute(key).filter(|_| element != "link") {
                    if element == "base" { active.push(value) } else { found.push(value) }
                }
            }
            active.extend(attribute("action").filter(|_| element == "form"));
            active.extend(attribute("formaction"));
            active.extend(
                attribute("content")
                    .filter(|_| element == "meta" && attribute("http-equiv").is_some_and(|what| what.eq_ignore_ascii_case("refresh"))),
            );
            if matches!(element.as_str(), "iframe" | "frame" | "embed" | "object" | "script" | "form") {
                active.push(element);
            }
            nodes.extend(template_contents.borrow().clone());
        }
        nodes.extend(node.children.borrow().iter().cloned());
    }
}

/// No anchor, form or refresh that only a browser sees.
#[test]
fn what_a_browser_finds_is_known() {
    let mut numbers = Numbers(20_261_125);
    let (mut missed, mut links, mut plain) = (Vec::new(), 0, 0);
    for _ in 0..20_000 {
        let source = document(&mut numbers);
        for scripting in [false, true] {
            let mut options = ParseOpts::default();
            options.tree_builder.scripting_enabled = scripting;
            let dom = parse_document(RcDom::default(), options).one(source.as_str());
            let (mut found, mut active) = (Vec::new(), Vec::new());
            led_to(&dom.document, &mut found, &mut active);
            links += found.len();
            let ours = html::read(&source);
            if !ours.flaws.is_empty() {
                continue;
            }
            plain += 1;
            // HTML replaces NUL, which never reaches a reader here: it is a flaw of the part.
            for value in found.iter().filter(|value| !value.contains('\u{fffd}')) {
                if !ours.addresses.iter().any(|address| address.value == *value) {
                    missed.push(format!("{source:?}: {value}"));
                }
            }
            missed.extend(active.iter().map(|value| format!("{source:?}: active {value}")));
        }
    }
    assert!(links > 10_000 && plain > 5_000, "{links} links, {plain} without a flaw");
    assert!(missed.is_empty(), "{}:\n{}", missed.len(), missed.iter().take(30).cloned().collect::<Vec<_>>().join("\n"));
}
