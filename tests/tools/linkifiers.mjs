// Writes tests/fixtures/linkifiers.tsv: strings, and the hosts that any of three linkifiers from npm makes links to.
//   npm install linkifyjs@4.4.0 autolinker@4.1.5 linkify-it@6.1.0
//   node linkifiers.mjs > linkifiers.tsv
// A string is escaped as in JSON; hosts are in lower case, as the URL standard maps them, sorted, with commas between.
import { createRequire } from "node:module";
const require = createRequire(process.cwd() + "/");
const linkify = require("linkifyjs");
const Autolinker = require("autolinker");
const LinkifyIt = require("linkify-it");
const { domainToASCII } = require("node:url");

const it = new (LinkifyIt.LinkifyIt ?? LinkifyIt.default ?? LinkifyIt)();
it.set({ fuzzyLink: true, fuzzyIP: true, fuzzyEmail: true, "---": true });

let state = 20261125;
const random = (below) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 4294967296) * below);
};
const pick = (list) => list[random(list.length)];

const HOSTS = [
  "evil-login.com", "Evil-Login.Com", "EVIL.ORG", "www.evil.com", "WWW.EVIL.CO.UK", "a.b.c.evil.de", "my_account.evil.net",
  "evil.xyz", "evil.zip", "evil.py", "setup.py", "readme.md", "evil.io", "x--y.evil.app", "e-v-i-l.jp", "1.evil.com", "123.com",
  "xn--bcher-kva.com", "bücher.com", "почта.рф", "例え.jp", "evil.рф", "evil。com", "evil．com", "evil\u00ad.com", "ev\u200bil.com",
  "203.0.113.7", "localhost", "evil.web", "evil.museum", "node.js", "e.g", "v1.2.3", "mr.smith", "evil.technology", "evil.test",
  "evil.com.", "evil..com", "-evil.com", "evil-.com", "_evil.com", "evil.com_", "evil.c", "evil.company", "b.evil.tokyo", "evil.한국",
];
const BEFORE = [
  "", " ", "(", "[", "{", "<", "\"", "'", "*", "_", "~", "`", "|", "/", "//", "\\\\", ":", ";", ",", ".", "!", "?", "=", "&", "@", "#", "$", "%",
  "^", "+", "-", "—", "“", "「", "は", "을", "x", "Urgent:", "see:", "http://", "https://", "HTTPS://", "ftp://", "http:", "https:/", "mailto:",
  "bob@", "a.b@", "tel:", "http://user@", "https://allowed.com/", "https://allowed.com,", "https://allowed.com)", "allowed.com/", "allowed.com|",
  "allowed.com ", "https://allowed.com/x;", "https://allowed.com/x'", "\t", "\n", "\u00a0", "\u200b", "...", "😀", "→", "1", "é", "http://allowed.com@",
];
const AFTER = [
  "", " ", "/", "/x", "/x/y?z=1", "?x", "?x=1", "#x", "#", ":8080", ":8080/x", ":x", "/@bob", "/?u=https://allowed.com", ".", ",", ";", "!", "?", ")",
  "]", "}", ">", "\"", "'", "*", "_", "~", "`", "|", "|evil.org", ",evil.org", ";evil.org/x", ")evil.org", "'evil.org", " evil.org", "@corp.example",
  "@bob", "を", "에서", "은evil.org", "。evil.org", "…", "”", "/을", "/x。", "\\x", "/x_(y)", "/x(y", "/x[evil.org]", ".Please", ".evil.org", "-evil.org",
  "_evil.org", "😀", "\u200b", "\u00adx", "/*evil.org*", "/x^evil.org", "/x\"evil.org", "\nevil.org", "/x<evil.org>", "é", "/é", "/~x", "//evil.org", "+x",
];

const strings = new Set();
for (const host of HOSTS) {
  for (const before of BEFORE) strings.add(before + host + pick(AFTER));
  for (const after of AFTER) strings.add(pick(BEFORE) + host + after);
}
while (strings.size < 7000) {
  const one = () => pick(BEFORE) + pick(HOSTS) + pick(AFTER);
  strings.add(random(3) === 0 ? one() + one() : one() + pick(["", " ", " and ", "\n"]) + one());
}

// What a browser opens: no mail, no other program.
const hostOf = (href) => {
  try {
    const url = new URL(href);
    return /^(https?|ftp|ftps):$/.test(url.protocol) ? url.hostname : "";
  } catch {
    return "";
  }
};
const by = [0, 0, 0];
for (const text of strings) {
  const hosts = new Set();
  const add = (which, href) => {
    const host = hostOf(href);
    if (host) {
      by[which] += 1;
      hosts.add(host);
    }
  };
  for (const found of linkify.find(text)) if (found.type === "url") add(0, found.href);
  const options = { urls: true, email: true, phone: false, mention: false, hashtag: false, sanitizeHtml: false };
  for (const found of (Autolinker.default ?? Autolinker).parse(text, options)) if (found.getType() === "url") add(1, found.getAnchorHref());
  for (const found of it.match(text) ?? []) if (found.schema !== "mailto:" && !found.url.startsWith("mailto:")) add(2, found.url.startsWith("//") ? "http:" + found.url : found.url);
  process.stdout.write(JSON.stringify(text) + "\t" + [...hosts].sort().join(",") + "\n");
}
process.stderr.write(`${strings.size} strings; links by linkifyjs ${by[0]}, autolinker ${by[1]}, linkify-it ${by[2]}\n`);
