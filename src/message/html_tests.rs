//! Tests of [`super`]: the links and words of HTML parts.

use super::*;

fn addresses(html: &str) -> Vec<String> {
    read(html).addresses.into_iter().map(|address| address.value).collect()
}

#[test]
fn links_with_label_and_place() {
    let html = "<p>Hello &amp; welcome</p><a href=\"https://a.test/?x=1&amp;y=2\"><b>Reset</b> it</a> later";
    let found = read(html);
    assert_eq!(found.addresses.len(), 1);
    let address = &found.addresses[0];
    assert_eq!(address.value, "https://a.test/?x=1&y=2");
    assert_eq!(address.label.trim(), "Reset it");
    assert!(address.before.contains("Hello & welcome"), "{:?}", address.before);
    assert_eq!(html.get(address.place.clone().unwrap()).unwrap(), "https://a.test/?x=1&amp;y=2");
    assert!(found.flaws.is_empty());
}

#[test]
fn no_hiding_place() {
    for html in [
        "<!--[if mso]><v:roundrect href=\"https://attack.test/\"></v:roundrect><![endif]-->",
        "<!--[if mso]><a href='https://attack.test/'>x</a><![endif]-->",
        "<![if !mso]><a href='https://attack.test/'>x</a><![endif]>",
        "<!--[if !mso]><!--><a href='https://attack.test/'>x</a><!--<![endif]-->",
        "<noscript><a href='https://attack.test/'>x</a></noscript>",
        "<map><area href='https://attack.test/'></map>",
        "<svg><a xlink:href='https://attack.test/'>x</a></svg>",
        "<svg><a href='https://attack.test/'>x</a></svg>",
        "<a style='display:none' href='https://attack.test/'></a>",
        "<a/href=https://attack.test/>x</a>",
        "<A HREF=https://attack.test/>x",
        "<!--[IF mso]><a href='https://attack.test/'>x</a><![endif]-->",
        "<!-- [ if mso ] ><a href='https://attack.test/'>x</a><![endif]-->",
        "<xmp><a href='https://attack.test/'>x</a></xmp>",
        "<noembed><a href='https://attack.test/'>x</a></noembed>",
        "<noframes><a href='https://attack.test/'>x</a></noframes>",
        "<title><a href='https://attack.test/'>x</a></title>",
        "<style><a href='https://attack.test/'>x</a></style>",
        "<link itemprop=url href='https://attack.test/'>",
        "<script type='application/ld+json'>{\"potentialAction\":{\"target\":\"https://attack.test/\"}}</script>",
        "<script type='application/ld+json'>{\"@type\":\"ViewAction\",\"x\":[\"https://attack.test/\"]}</script>",
        "<script type='application/ld+json'>{\"potentialAction\":{\"target\":{\"@id\":\"https://attack.test/\"}}}</script>",
        "<script type='application/ld+json'>{\"potentialAct\\u0069on\":{\"URL\":\"https:\\/\\/attack.test/\"}}</script>",
        "<script type='application/ld+json'>{\"potentialAction\":{\"target\":\"https://attack.test/\",\"target\":\"https://a.test/\"}}</script>",
        "<script type='application/ld+json'>{\"@type\":\"ParcelDelivery\",\"trackingUrl\":\"https://attack.test/\"}</script>",
        "<video itemprop=target src='https://attack.test/'></video>",
        "<data itemprop=target value='https://attack.test/'></data>",
        "<meta itemprop=x content='https://attack.test/'>",
        "<template><a href='https://attack.test/'>x</a></template>",
        "<textarea><a href='https://attack.test/'>x</a></textarea><a href='https://attack.test/'>",
    ] {
        assert!(addresses(html).contains(&"https://attack.test/".to_owned()), "{html}: {:?}", read(html));
    }
    for html in [
        "<form action='https://attack.test/'>",
        "<base href='https://attack.test/'>",
        "<iframe src='https://attack.test/'>",
        "<meta http-equiv=Refresh content='0;url=https://attack.test/'>",
        "<button formaction='https://attack.test/'>",
        "<a ping='https://attack.test/' href='#'>",
        "<script>x</script>",
        "<object data='https://attack.test/'>",
        "<p onclick='x()'>",
        "<meta http-equiv='&#82;efresh' content='0;url=https://attack.test/'>",
        "<meta http-equiv=Content-Base content='https://attack.test/'><a href='#x'>x</a>",
        "<div xml:base='https://attack.test/'><a href='#x'>x</a></div>",
        "<svg><a><animate attributeName=href values='https://attack.test/'></animate></a></svg>",
        "<svg><a><set attributeName=href to='https://attack.test/'></set></a></svg>",
        "<script type='application/ld+json'>{}<!--<script></script>",
        "<script type='application/ld+json'>/**/{\"potentialAct\\u0069on\":{\"target\":\"https://attack.test/\"}}</script>",
        "<script type='application/ld+json'>{\"potentialAction\":{\"target\":\"https://attack.test/\"},}</script>",
    ] {
        assert!(read(html).flaws.has(Flaw::HtmlActive), "{html}");
    }
    assert!(read("<a href='https://a.test/' href='https://attack.test/'>").flaws.has(Flaw::HtmlAmbiguous));
    for html in [
        "<a href='#' to='https://attack.test/'>",
        "<!--[if mso <a href='https://attack.test/'>x</a>-->",
        "<!-- x --!><a href='https://attack.test/'>x</a>",
        "<meta http-equiv=x http-equiv=refresh content='0'>",
        "<plaintext>",
        "<table>x<tr><td>y</td></tr></table>",
        "<table><tr>x<td>y</td></tr></table>",
        "<table><tr><td>y</td>x</tr></table>",
        "<table><tr><td>y</td></tr></tbody>x</table>",
        "<table><b>x</b></table>",
        "<table><table></table><td>x<td>y",
    ] {
        assert!(!read(html).flaws.is_empty(), "{html}");
    }
    let deep = "<noscript><xmp>".repeat(20);
    let _ = read(&deep);
    let deep = format!("{}<a href='https://attack.test/'>x</a>{}", "<!--[if mso]>".repeat(40), "<![endif]-->".repeat(40));
    let _ = read(&deep);
}

#[test]
fn what_leads_nowhere() {
    for html in [
        "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0//EN\" \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd\">",
        "<html xmlns='http://www.w3.org/1999/xhtml' xmlns:v='urn:schemas-microsoft-com:vml'>",
        "<p id='https://a.test' class='x' data-x='https://a.test' aria-x='https://a.test' itemtype='http://schema.org/X'>",
        "<img src='//a.test/x.png' srcset='https://a.test/y.png 2x'><link href='//fonts.googleapis.com/css' rel=stylesheet>",
        "<link rel=prefetch href='https://a.test/'><td background='https://a.test/'>",
        "<style>a{background:url(https://a.test/)} .button.zone{}</style>",
        "<p style='background:url(&quot;https://a.test/&quot;)'>",
        "<script type='application/ld+json'>{\"@context\":\"http://schema.org\",\"url\":\"https://a.test\"}</script>",
        "<!-- <a href='https://a.test/'>x</a> -->",
        "<base target=_blank>",
        "<o:SmartTagType namespaceuri='urn:schemas-microsoft-com:office:smarttags' name=PersonName downloadurl='http://www.microsoft.com/'/>",
        "<a onmouseover=\"msoCommentShow('_anchor_1','_com_1')\" onmouseout=\"msoCommentHide('_com_1')\"></a>",
        "<table> <caption> </caption><colgroup><col></colgroup>\r\n<tr> <td><table><tr><th> </th></tr></table> </td>\r\n</tr></table>",
        "<meta itemprop=description content='Reset'><meta itemprop=name content='View order'>",
        "<div itemscope itemtype='http://schema.org/EmailMessage'></div>",
        "<script type='application/ld+json'>{\"@context\":\"http://schema.org\",\"@type\":\"ViewAction\",\"name\":\"View order\"}</script>",
        "<script type='application/ld+json'>{\"@type\":\"Organization\",}</script>",
    ] {
        let found = read(html);
        assert!(found.flaws.is_empty() && found.addresses.is_empty(), "{html}: {found:?}");
        assert!(found.text.trim().is_empty(), "{html}");
    }
}

#[test]
fn places_in_text_and_nested_markup() {
    let html = "<p>x &amp; https:&#x2F;&#x2F;a.test/?a=1&amp;b=2 y</p><!--[if mso]><a href=\"https://b.test/\">b</a><![endif]-->";
    let found = read(html);
    let shown = "https://a.test/?a=1&b=2";
    let at = found.text.find(shown).unwrap();
    let place = found.place(&(at..at + shown.len())).unwrap();
    assert_eq!(html.get(place).unwrap(), "https:&#x2F;&#x2F;a.test/?a=1&amp;b=2");
    assert_eq!(html.get(found.addresses[0].place.clone().unwrap()).unwrap(), "https://b.test/");
    assert_eq!(found.addresses[0].label, "b");
}

#[test]
fn edges_that_a_reader_sees() {
    let edges = |html: &str| read(html).runs.iter().map(|run| run.edge).collect::<Vec<_>>();
    assert_eq!(edges("<a>x</a>y"), [Edge::Seen, Edge::Seen]);
    for ignored in
        ["<td>", "<tr>", "<th>", "<body>", "<html>", "<head>", "<caption>", "</td>", "</body>", "</html>", "<col>", "<input type=hidden>"]
    {
        assert_eq!(edges(&format!("<p>x{ignored}y</p>")).get(1), Some(&Edge::Unseen), "{ignored}");
        let closed = format!("<div><table><td>z</div></table><p>x{ignored}y</p>");
        assert_eq!(edges(&closed).last(), Some(&Edge::Unseen), "{closed}");
    }
    assert_eq!(edges("<table><tr><td>x<td>y</table>"), [Edge::Seen, Edge::Seen]);
    assert_eq!(edges("<!--[if mso]>x</td><td>y<![endif]-->").last(), Some(&Edge::Seen));
    assert_eq!(edges("<a>x</a><b>y</b>"), [Edge::Seen, Edge::Seen]);
    assert_eq!(edges("<div>x<b>y</b>z<wbr>w</div>v"), [Edge::Seen, Edge::Unseen, Edge::Unseen, Edge::Unseen, Edge::Seen]);
}
