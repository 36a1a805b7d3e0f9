//! The scanners whose links are known, and where each keeps the original.

/// How a scanner hides a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hiding {
    /// In a query field, percent-encoded.
    Field(&'static str),
    /// The same in some links; in others nowhere.
    FieldOrNowhere(&'static str),
    /// In a query field, not encoded but for `&`, a fragment is the original's; in some links nowhere.
    OpenField(&'static str),
    /// In a query field, as base64.
    Base64Field(&'static str),
    /// Proofpoint's second way, in the field `u`: `-` for `%`, `_` for `/`.
    Dashes,
    /// Proofpoint's third way: odd letters apart from the link.
    Underscores,
    /// As the last part of the path, percent-encoded.
    LastSegment,
    /// As the path's second part, percent-encoded.
    SecondSegment,
    /// Between `___` and `___` in the path, behind a release (`r01`) or none.
    Between,
    /// In the field `url`, on a host of the scanner's customer: known by its field `fewReq`.
    Forti,
    /// As `url` in JSON, in the field `key` as base64, on a host of the scanner's or of a partner's.
    JsonKey,
    /// In the field `Base64Url`, deflated, or in the field `Data`, both as base64.
    Deflated,
    /// As `url` in JSON, deflated, in the second part of the field `t`.
    DeflatedJson,
    /// Not at all: only the vendor knows the original.
    Nowhere,
    /// Not at all, but the field `domain` holds the host.
    HostOnly,
}

/// A scanner's form of links.
pub(super) struct Wrapper {
    /// The name of the scanner.
    pub(super) name: &'static str,
    /// Its host; `.` in front: the hosts below it; `*`: any, since the scanner stands at its customers'.
    pub(super) host: &'static str,
    /// The start of the path.
    pub(super) path: &'static str,
    /// Where in the link the original is.
    pub(super) hiding: Hiding,
}

const fn wrapper(name: &'static str, host: &'static str, path: &'static str, hiding: Hiding) -> Wrapper {
    Wrapper { name, host, path, hiding }
}

/// All known forms; the first that fits counts.
pub(super) const WRAPPERS: &[Wrapper] = &[
    wrapper("Microsoft Safe Links", ".safelinks.protection.outlook.com", "/", Hiding::Field("url")),
    wrapper("Microsoft Safe Links", "safelinks.protection.outlook.com", "/", Hiding::Field("url")),
    wrapper("Microsoft Safe Links", ".safelinks.protection.office365.us", "/", Hiding::Field("url")),
    wrapper("Microsoft Safe Links", "statics.teams.cdn.office.net", "/evergreen-assets/safelinks", Hiding::Field("url")),
    wrapper("Microsoft Safe Links (Outlook)", "outlook.office.com", "/mail/safelink.html", Hiding::Field("url")),
    wrapper("Microsoft Safe Links (Outlook)", "outlook.office365.com", "/mail/safelink.html", Hiding::Field("url")),
    wrapper("Microsoft Safe Links (Outlook)", "outlook.cloud.microsoft", "/mail/safelink.html", Hiding::Field("url")),
    wrapper("Microsoft Safe Links (Outlook)", "outlook.live.com", "/mail/safelink.html", Hiding::Field("url")),
    wrapper("Proofpoint URL Defense v1", "urldefense.proofpoint.com", "/v1/url", Hiding::Field("u")),
    wrapper("Proofpoint URL Defense v2", "urldefense.proofpoint.com", "/v2/url", Hiding::Dashes),
    wrapper("Proofpoint URL Defense v3", "urldefense.com", "/v3/__", Hiding::Underscores),
    wrapper("Proofpoint URL Defense v3", "urldefense.us", "/v3/__", Hiding::Underscores),
    wrapper("Proofpoint URL Defense v3", "urldefense.proofpoint.com", "/v3/__", Hiding::Underscores),
    wrapper("Proofpoint isolation", "urlisolation.com", "/browser", Hiding::Field("url")),
    wrapper("Barracuda Link Protection", ".cudasvc.com", "/url", Hiding::Field("a")),
    wrapper("Cisco Secure Email", "secure-web.cisco.com", "/", Hiding::LastSegment),
    wrapper("Sophos Email", ".protection.sophos.com", "/", Hiding::Base64Field("u")),
    wrapper("Sophos (Reflexion)", "url.emailprotection.link", "/", Hiding::Nowhere),
    wrapper("Symantec Click-time", "clicktime.symantec.com", "/", Hiding::Field("u")),
    wrapper("Symantec Click-time", "clicktime.cloud.postoffice.net", "/", Hiding::Field("u")),
    wrapper("Trellix (FireEye)", "protect2.fireeye.com", "/", Hiding::Field("u")),
    wrapper("Trellix (FireEye)", ".protect2.fireeye.com", "/", Hiding::Field("u")),
    wrapper("Trellix (FireEye)", "protect.fireeye.com", "/", Hiding::Field("u")),
    wrapper("Check Point (Avanan)", ".avanan.click", "/v2/", Hiding::Between),
    wrapper("Check Point (Avanan)", ".checkpoint.com", "/v2/", Hiding::Between),
    wrapper("Check Point (Avanan)", "url.avanan.click", "/v1/", Hiding::Nowhere),
    wrapper("Trend Micro", ".trendmicro.com", "/wis/clicktime/", Hiding::Field("url")),
    wrapper("Trend Micro", ".trendmicro.eu", "/wis/clicktime/", Hiding::Field("url")),
    wrapper("Trend Micro", ".asiainfo-sec.com", "/wis/clicktime/", Hiding::Field("url")),
    wrapper("Fortinet FortiMail", ".fortimailcloud.com", "/fmlurlsvc/", Hiding::Field("url")),
    wrapper("Fortinet FortiMail", "*", "/fmlurlsvc/", Hiding::Forti),
    wrapper("Mimecast", ".mimecast.com", "/s/", Hiding::HostOnly),
    wrapper("Mimecast", ".mimecastprotect.com", "/s/", Hiding::HostOnly),
    wrapper("McAfee ClickProtect", "cp.mcafee.com", "/d/", Hiding::Nowhere),
    wrapper("Hornetsecurity", "atpscan.global.hornetsecurity.com", "/", Hiding::FieldOrNowhere("u")),
    wrapper("EdgePilot", "link.edgepilot.com", "/s/", Hiding::OpenField("u")),
    wrapper("EdgePilot", "link.edgepilot.com", "/x/", Hiding::OpenField("u")),
    wrapper("Zix", "link.zixcentral.com", "/u/", Hiding::Field("u")),
    wrapper("Libraesva", "urlsand.esvalabs.com", "/", Hiding::Field("u")),
    wrapper("Trustwave MailMarshal", "scanmail.trustwave.com", "/", Hiding::Field("u")),
    wrapper("Vade", "antiphishing.vadesecure.com", "/v", Hiding::Field("u")),
    wrapper("Vade", ".vadesecure.com", "/safeproxy/", Hiding::Field("u")),
    wrapper("TitanHQ", "linklock.titanhq.com", "/analyse", Hiding::Field("url")),
    wrapper("Mailinblack", ".mailinblack.com", "/securelink", Hiding::JsonKey),
    wrapper("Mailinblack", "*", "/securelink/", Hiding::JsonKey),
    wrapper("Egress Defend", ".defend.egress.com", "/Warning", Hiding::Deflated),
    wrapper("INKY", ".inky.com", "/link", Hiding::DeflatedJson),
    wrapper("Amazon SES click counter", ".awstrack.me", "/L0/", Hiding::SecondSegment),
];
