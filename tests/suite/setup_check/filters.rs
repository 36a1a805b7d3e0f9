//! Files of rspamd, `SpamAssassin` and amavis: each single change to what the recipe has is said, and what else could exempt a mail.

use std::fs;

use firstclick::setup::check::{
    Conclusion,
    Verdict::{CannotJudge, Missing, NotOurs, Note, TooWide, WrongOrder},
};

use super::{HOP, facts, judged_files, printed, says};
use crate::{
    hop::needs,
    setup::{CURRENT, rich, small},
};

/// Perl as Debian's files have it.
const STOCK: &str = "use strict;\n@bypass_spam_checks_maps = (\n   \\%bypass_spam_checks, \\@bypass_spam_checks_acl, \\$bypass_spam_checks_re);\n\
    $sa_local_tests_only = 0;    # only tests which do not require internet access?\n\
    $policy_bank{'AM.PDP-SOCK'} = {\n  protocol => 'AM.PDP',  # select\n  auth_required_release => 0, # don't require secret-id\n};\n1;\n";

#[test]
fn rspamd() {
    let facts = facts(&rich());
    let (settings, arc) = (printed("rspamd", &facts, "settings.conf"), printed("rspamd", &facts, "arc.conf"));
    let report = judged_files("rspamd", &facts, &[("local.d/settings.conf", settings.as_bytes()), ("local.d/arc.conf", arc.as_bytes())]);
    assert_eq!(report.answer, Conclusion::Right, "{:#?}", report.findings);
    let dump = |settings: &str| format!("settings {{\n{settings}\n}}\narc {{\n{arc}\n}}\noptions {{ dns {{ timeout = 1; }} }}\n");
    assert_eq!(judged_files("rspamd", &facts, &[("dump", dump(&settings).as_bytes())]).answer, Conclusion::Right);
    for (from, to, verdict, words) in [
        (HOP, "192.0.2.0/24", TooWide, "more than the hop"),
        (HOP, "198.51.100.7", Missing, "not among them"),
        (HOP, "/etc/rspamd/hops.map", CannotJudge, "no address"),
        ("[\"192.0.2.25\"]", "\"192.0.2.0/24\"", TooWide, "more than the hop"),
        (CURRENT, ".*", CannotJudge, "not understood"),
        (CURRENT, "zzz", TooWide, "number 1"),
        (CURRENT, "zzz", Missing, "token 1 of 3"),
        ("\"^(?:", "\"(?:", TooWide, "`^`"),
        ("(?:", "(", TooWide, "one alternative each"),
        ("X-Firstclick", "X-Other", TooWide, "is not asked for"),
        ("priority = high", "priority = low", WrongOrder, "not `high`"),
        (
            "symbols_disabled = [\"URL_REDIRECTOR_CHECK\"]",
            "symbols_disabled = [\"URL_REDIRECTOR_CHECK\", \"DMARC_CHECK\"]",
            TooWide,
            "DMARC_CHECK",
        ),
        ("symbols_disabled = [\"URL_REDIRECTOR_CHECK\"]", "groups_disabled = [\"rbl\"]", Missing, "is not switched off"),
        ("apply {", "want_spam = yes; apply {", TooWide, "no check at all"),
        ("apply {", "expression = \"ip | header:x\"; apply {", CannotJudge, "expression"),
        ("apply {", "inverse = yes; apply {", CannotJudge, "inverse"),
        ("firstclick {", "other {", Missing, "settings"),
        ("firstclick {", "a { priority = high; apply { actions { reject = 9; } } }\nfirstclick {", WrongOrder, "comes before"),
        ("firstclick {", "z { ip = \"10.0.0.0/8\"; want_spam = yes; }\nfirstclick {", NotOurs, "none of this configuration's"),
        (
            "firstclick {",
            "z { apply { symbols_disabled = [\"URL_REDIRECTOR_CHECK\"]; } }\nfirstclick {",
            NotOurs,
            "none of this configuration's",
        ),
        ("firstclick {", "z { apply { symbols_enabled = [\"X\"]; } }\nfirstclick {", NotOurs, "none of this configuration's"),
        ("firstclick {", ".include \"x\"\nfirstclick {", CannotJudge, "macro"),
        ("firstclick {", "firstclick { ip = \"10.0.0.0/8\"; }\nfirstclick {", CannotJudge, "twice"),
    ] {
        assert!(settings.contains(from), "{from}: {settings}");
        // Told apart by name, and by header too.
        let text = settings.replacen(from, to, 1);
        let report = judged_files("rspamd", &facts, &[("dump", dump(&text).as_bytes())]);
        let is_renamed = to == "other {";
        assert!(says(&report, verdict, words) || is_renamed, "{to}: {:#?}", report.findings);
        assert_eq!(report.answer == Conclusion::Right, is_renamed, "{to}");
    }
    for text in ["settings = \"http://x/y\"; arc {}", "settings {} arc {} settings_redis {}", "options {}", "x", "\u{0}"] {
        assert_ne!(judged_files("rspamd", &facts, &[("dump", text.as_bytes())]).answer, Conclusion::Right, "{text}");
    }
}

#[test]
fn spamassassin_and_amavis() {
    let facts = facts(&small());
    for scanner in ["spamassassin", "amavis"] {
        let rules = printed(scanner, &facts, "firstclick.cf");
        let judge = |rules: &str, own: &str| {
            let files: &[(&str, &[u8])] = &[("firstclick.cf", rules.as_bytes()), ("50-user", own.as_bytes())];
            judged_files(scanner, &facts, if scanner == "amavis" { files } else { &files[..1] })
        };
        let report = judge(&rules, STOCK);
        assert_eq!(report.answer, Conclusion::Right, "{:#?}", report.findings);
        for (from, to, verdict, words) in [
            (CURRENT, "zzz", TooWide, "number 1"),
            (CURRENT, ".*", CannotJudge, "not understood"),
            (")$/", ")/", TooWide, "`$`"),
            (")$/", ")$/i", CannotJudge, "ends with letters"),
            ("X-Firstclick =~", "X-Firstclick !~", CannotJudge, "no comparison"),
            ("X-Firstclick =~", "Subject =~", TooWide, "another header"),
            ("192\\.0\\.2\\.25", "192.0.2.25", CannotJudge, "no address"),
            ("192\\.0\\.2\\.25", "192\\.0\\.2\\.26", TooWide, "no address of the hop"),
            ("__FIRSTCLICK_TOKEN && __FIRSTCLICK_HOP", "__FIRSTCLICK_TOKEN || __FIRSTCLICK_HOP", TooWide, "both"),
            ("__FIRSTCLICK_TOKEN && __FIRSTCLICK_HOP", "__FIRSTCLICK_TOKEN", TooWide, "both"),
            ("score FIRSTCLICK_TAG -5", "score FIRSTCLICK_TAG -100", TooWide, "covers more"),
            ("score FIRSTCLICK_TAG -5", "", Missing, "no score"),
            ("priority FIRSTCLICK_TAG -200", "priority FIRSTCLICK_TAG -100", WrongOrder, "after plugins"),
            ("priority FIRSTCLICK_TAG -200", "", WrongOrder, "after plugins"),
            ("shortcircuit FIRSTCLICK_TAG on", "shortcircuit FIRSTCLICK_TAG ham", TooWide, "-100"),
            ("shortcircuit FIRSTCLICK_TAG on", "", Missing, "not `on`"),
            ("loadplugin", "# loadplugin", Missing, "not loaded"),
            ("trusted_networks 192", "# trusted_networks 192", Missing, "not among them"),
            ("trusted_networks 192.0.2.25", "trusted_networks 0.0.0.0/0", TooWide, "nearly everybody"),
            ("loadplugin", "include other.cf\nloadplugin", CannotJudge, "not seen"),
            ("loadplugin", "shortcircuit OTHER ham\nloadplugin", NotOurs, "none of the recipe's"),
            ("loadplugin", "welcomelist_from *@*\nloadplugin", NotOurs, "every sender"),
            ("loadplugin", "whitelist-from bob@vendor.example *@*.com\nloadplugin", NotOurs, "every sender"),
            ("loadplugin", "clear-trusted-networks\nloadplugin", CannotJudge, "not seen"),
            ("loadplugin", "lang en shortcircuit OTHER ham\nloadplugin", NotOurs, "none of the recipe's"),
            ("loadplugin", "header MINE ALL =~ /^x\\-firstclick:/mi\nloadplugin", NotOurs, "looks at our header"),
            ("loadplugin", "header MINE X-Firstclick =~ /./\nloadplugin", NotOurs, "looks at our header"),
            ("loadplugin", "header MINE exists:X-Firstclick\nloadplugin", NotOurs, "looks at our header"),
            ("loadplugin", "score FIRSTCLICK_TAG -99\nloadplugin", CannotJudge, "twice"),
            ("loadplugin", "tflags FIRSTCLICK_TAG nice\nloadplugin", CannotJudge, "not known here"),
            ("meta FIRSTCLICK_TAG", "if (version < 3)\nendif\nifplugin X\nmeta FIRSTCLICK_TAG", CannotJudge, "under a condition"),
        ] {
            assert!(rules.contains(from), "{from}: {rules}");
            let report = judge(&rules.replacen(from, to, 1), STOCK);
            assert!(says(&report, verdict, words), "{scanner} {to}: {:#?}", report.findings);
            assert_ne!(report.answer, Conclusion::Right, "{to}");
        }
    }
    // SpamAssassin reads no file of another name, so what stands there alone is missing.
    let rules = printed("spamassassin", &facts, "firstclick.cf");
    for name in ["firstclick.cf.off", "firstclick.cf~", "firstclick"] {
        let report = judged_files("spamassassin", &facts, &[(name, rules.as_bytes())]);
        assert!(says(&report, Missing, "no such rule"), "{name}: {:#?}", report.findings);
    }
}

/// Perl can do anything: what is not an assignment of plain values is never right, however it is hidden.
#[test]
fn amavis_own_configuration() {
    let facts = facts(&small());
    let rules = printed("amavis", &facts, "firstclick.cf");
    let judge = |own: &str| judged_files("amavis", &facts, &[("firstclick.cf", rules.as_bytes()), ("50-user", own.as_bytes())]);
    for (own, verdict) in [
        ("@bypass_spam_checks_maps = (1);\n", NotOurs),
        ("$x = do 'y';\n$y = 'z';\n@bypass_spam_checks_maps = (1);\n", NotOurs),
        ("$policy_bank{'MYNETS'} = { bypass_spam_checks_maps => [1] };\n", NotOurs),
        ("$sa_local_tests_only = 1;\n", Note),
    ] {
        let report = judge(own);
        assert!(report.findings.iter().any(|finding| finding.verdict == verdict), "{own}: {:#?}", report.findings);
    }
    for own in HIDDEN {
        let report = judge(own);
        assert_eq!(report.answer, Conclusion::CannotJudge, "{own}: {:#?}", report.findings);
    }
    for own in PLAIN {
        let report = judge(own);
        assert_eq!(report.answer, Conclusion::Right, "{own}: {:#?}", report.findings);
    }
    let deep = format!("@x = {}1{};\n", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(judge(&deep).answer, Conclusion::Right);
    assert_eq!(judged_files("amavis", &facts, &[("firstclick.cf", rules.as_bytes())]).answer, Conclusion::CannotJudge);
    // Debian's own files hold more than assignments, and change nothing.
    if needs("amavisd").is_some() {
        for file in fs::read_dir("/etc/amavis/conf.d").unwrap() {
            let (name, text) = (file.as_ref().unwrap().file_name(), fs::read(file.unwrap().path()).unwrap());
            let report = judged_files("amavis", &facts, &[("firstclick.cf", rules.as_bytes()), (name.to_str().unwrap(), &text)]);
            assert_eq!(report.answer, Conclusion::Right, "{name:?}: {:#?}", report.findings);
        }
    }
}

/// Assignments of plain values.
const PLAIN: [&str; 12] = [
    STOCK,
    "",
    "# @bypass_spam_checks_maps = (1);\n",
    "$mydomain = 'corp.example'; # ours; do not change\n$max_servers = 4; $x = -1.5;\n",
    "$x = \"postmaster\\@$mydomain\"; $y = \"$MYHOME/local\".'/do; eval #';\n",
    "@mynetworks = qw( 127.0.0.0/8 [::1] 10.0.0.0/8 );\n",
    "$banned_filename_re = new_RE(\n  qr'^\\.(exe|ms)$'i,  # types\n  [ qr/^.*?: (?!Infected)(.*)$/m => 1 ],\n);\n",
    "$final_spam_destiny = D_PASS; $lha = undef; $e = CC_SPAM;\n",
    "$interface_policy{'10026'} = 'OUT'; $ENV{PATH} = $path = '/usr/bin:/bin';\n",
    "$policy_bank{'OUT'} = { originating => 1, smtpd_greeting_banner => 'no *: glob; here', };\n",
    "@x = ('a' => [1..7, 4+1, 200*1024], { local => { package => 1 }, }, \\&ask_daemon, \\$y);\n",
    "$x = 1",
];

/// What could do anything, or names a switch by parts.
const HIDDEN: [&str; 78] = [
    "$policy_bank{'MYNETS'} = { bypass_spam_checks_maps => [$x] };\n",
    "@bypass_spam_checks_maps = map { $_ } @x;\n",
    "$x = 'a;\n@bypass_spam_checks_maps\n= (1) if 1;\n",
    "push @{\"bypass_spam_checks_maps\"}, 1;\n",
    "do '/etc/amavis/other';\n",
    "1; do \"/etc/evil.pl\";\n",
    "my $x = do('/etc/evil.pl');\n",
    "$x = 1; eval 'anything';\n",
    "${\"bypass_s\".\"pam_checks_maps\"} = 1;\n",
    "use Evil;\n",
    "use strict 'x', do '/etc/evil.pl';\n",
    "*x = \\@y;\n",
    "$x = 1; *{\"a\"} = [];\n",
    "$x = undef *y;\n",
    "$x = \"a;#\"; @bypass_spam_checks_maps = (1) if 1;\n",
    "$x = 'a;#'; do '/etc/evil.pl';\n",
    "$x = `cat /etc/evil.pl`;\n",
    "push @x, 1;\n",
    "include_config_files('/x');\n",
    "=pod\n@bypass_spam_checks_maps = ();\n=cut\n",
    "$x\n=pod\n;\n=cut\n= 1;\n",
    // Texts that end elsewhere than it seems.
    "$x = <<A; $y = 1;\n'\nA\ndo 'evil'; #'\n",
    "$x = <<'';\n'\n\ndo 'evil'; #'\n",
    "$x = q{'}; do 'evil'; #';\n",
    "$x = qq['; do 'evil'; #'];\n",
    "$x = q'a'; do 'evil';\n",
    "$x = q\n=> 1; do 'evil'; $y = 'a=';\n",
    "@x = qw #a)\n ('); do 'evil'; #');\n",
    "@x = qw<'>; do 'evil'; #';\n",
    "@x = qw((')); do 'evil'; #');\n",
    "$x = qr#'#; do 'evil'; #';\n",
    "$x = qr{a{1}'}; do 'evil'; #'};\n",
    "$x = y/'//; do 'evil'; #';\n",
    "$x = $y / 2; do 'evil'; $x = 1 / 2;\n",
    "$x'y = \"'; do 'evil'; #'\";\n",
    "$x = $#{'}; do 'evil'; #'};\n",
    "$x = $'; do 'evil'; #';\n",
    "$x = 'a\\'; do 'evil'; #';\n$y = eval '';\n",
    "$x = \"a\\\\\"; do 'evil'; #\";\n",
    "format X =\n'\n.\ndo 'evil'; #'\n",
    // Code within texts and patterns.
    "$x = \"@{[ do 'evil' ]}\";\n",
    "$x = \"${\\ do 'evil' }\";\n",
    "$x = \"$y[do 'evil']\";\n",
    "$x = \"$y{do 'evil'}\";\n",
    "$x = \"$y->[do 'evil']\";\n",
    "$x = \"@y[do 'evil']\";\n",
    "$x = qr/$y[do 'evil']/;\n",
    "$x = qr/(?{ do 'evil' })/;\n",
    "$x = qr'(??{ do \"evil\" })';\n",
    "$x = qr'a'; s/x/do 'evil'/e;\n",
    "$x = qx'evil';\n",
    // Code.
    "BEGIN { @x = (1) }\n",
    "{ @x = (1) }\n",
    "sub x { 1 } $y = \\&x;\n",
    "$x = sub { 1 };\n",
    "&{'evil'};\n",
    "&$x;\n",
    "$x = \\&evil('a');\n",
    "$x = \\&evil ->();\n",
    "$x = $y->();\n",
    "$x{evil()} = 1;\n",
    "$x = { evil() };\n",
    "@x = (time\n=> 1);\n",
    "evil;\n",
    "local $x = 1;\n",
    "no strict;\n",
    "tie @x, 'Evil';\n",
    "goto x;\n",
    "package Amavis::Conf; $x = 1;\n",
    "$Amavis::Conf::x = 1;\n",
    "$x = 1;\n__END__\n",
    "$x = 1 __DATA__ => 1;\n",
    "$x = 1;\x04\n",
    "$x = <*>;\n",
    // Switches by parts, and other ways to them.
    "$policy_bank{'MYNETS'} = { 'bypass_spam_'.'checks_maps' => [1] };\n",
    "$policy_bank{'MYNETS'} = { \"bypass_spam\\x5fchecks_maps\" => [1] };\n",
    "$whitelist_sender{'a@b.example'} = 1; @lookup_sql_dsn = ('x'); $enable_ldap = 1;\n",
    "@spam_scanners = (); @additional_perl_modules = ('/etc/evil.pl'); $sa_siteconfigpath = '/etc/x';\n",
];
