//! `setup`: prints the steps to configure the scanner, filled in from the configuration.

use std::io::{self, Write as _};

use anyhow::bail;

use super::{Answer, Config};
use crate::{cli::Setup, edit::token::Token, settings::schema::nearest};

const SCANNERS: [&str; 1] = ["defender"];

pub(super) fn setup(config: &Config, arguments: &Setup) -> anyhow::Result<Answer> {
    let Some(scanner) = &arguments.scanner else {
        bail!("for which scanner? This version knows: {}; as in `firstclick setup {}`", SCANNERS.join(", "), SCANNERS[0]);
    };
    if !SCANNERS.contains(&scanner.as_str()) {
        let near = nearest(scanner, &SCANNERS).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        bail!("{scanner:?} is not known; this version knows: {}{near}", SCANNERS.join(", "));
    }
    let settings = config.load()?;
    let Some(tag) = &settings.tag else {
        bail!("{}: there is no [tag], so there is nothing that a rule could look for", config.path().display());
    };
    let Some((current, older)) = tag.tokens.split_first() else {
        bail!("the token file is empty; `firstclick keygen --token --out FILE` writes one");
    };
    let hops: Vec<String> = arguments.hops.iter().map(ToString::to_string).collect();
    let hops = if hops.is_empty() { "<the hop's public address>".to_owned() } else { hops.join("\", \"") };
    let each = |name: &'static str, tokens: &[Token]| tokens.iter().map(|token| (name, token.expose().to_owned())).collect::<Vec<_>>();
    let named = [each("current", std::slice::from_ref(current)), each("old", older), each("next", &tag.staged)].concat();
    let words: Vec<String> = named.iter().map(|(_, token)| format!("\"{token}\"")).collect();
    let mut out = io::stdout().lock();
    write!(
        out,
        r#"# Microsoft Defender for Office 365, Safe Links: PowerShell for Exchange Online (Connect-ExchangeOnline first).
# The rule acts only on mails that come from the hop AND carry its token. The token is a secret: keep it out of tickets.

New-TransportRule -Name "{RULE}" `
  -SenderIpRanges "{hops}" `
  -HeaderContainsMessageHeader "{header}" `
  -HeaderContainsWords {words} `
  -SetHeaderName "X-MS-Exchange-Organization-SkipSafeLinksProcessing" `
  -SetHeaderValue "1"

# Exchange sees the hop's address as the sender's. Let it look behind the hop, or SPF fails for all mail:
Set-InboundConnector -Identity "<the connector that the hop delivers to>" -EFSkipIPs "{hops}"

# Nobody but the hop may deliver to the tenant, or an attacker goes round the hop and brings the token himself:
Set-InboundConnector -Identity "<the connector that the hop delivers to>" -RestrictDomainsToIPAddresses $true -SenderIPAddresses "{hops}"

# See that the rule is there, and send yourself a reset mail in enforce mode:
Get-TransportRule "firstclick*" | Format-List Name, State, SenderIpRanges, HeaderContainsMessageHeader
"#,
        header = tag.header,
        words = words.join(", "),
    )?;
    rotating(&mut out, &named)?;
    if arguments.hops.is_empty() {
        writeln!(io::stderr().lock(), "note: give the hop's public address with --hop, and the commands are complete")?;
    }
    Ok(Answer::Yes)
}

/// The tokens of a rotation that is under way, each by its name, and the one command that tells a rule that is there already.
fn rotating(out: &mut impl io::Write, named: &[(&str, String)]) -> io::Result<()> {
    writeln!(
        out,
        "\n# Where the rule is there already, only its tokens change. {} it takes:",
        if named.len() == 1 { "This one" } else { "The token is being rotated; these" }
    )?;
    for (name, token) in named {
        let what = match *name {
            "current" => "mails carry it",
            "old" => "mails carried it before; `keygen --token --retire` takes it out, and this is to be printed again",
            _ => "staged, no mail carries it; `keygen --token --activate` once the rule takes it",
        };
        writeln!(out, "#   {name:7}  {token}  {what}")?;
    }
    let words: Vec<String> = named.iter().map(|(_, token)| format!("\"{token}\"")).collect();
    writeln!(out, "Set-TransportRule -Identity \"{RULE}\" -HeaderContainsWords {}", words.join(", "))
}

/// The rule's name.
const RULE: &str = "firstclick: leave one-time links to their readers";
