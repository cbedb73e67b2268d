"""How keys and passwords look: one row for each form, with the name of its kind. analysis.untrusted.secrets reads the table.

A row has its signs: a text that has none of them need not be searched for the row. Two starts of a pattern
never read the same text beyond a bounded length, and what is repeated without a bound cannot be split in two ways: the time
is linear, whatever the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

_WORD, _BASE64, _HEX = r"[A-Za-z0-9]", r"[A-Za-z0-9+/]", r"[0-9a-f]"
_MIXED = rf"(?={_WORD}{{0,60}}[A-Z])(?={_WORD}{{0,60}}\d)"  # unlike an identifier
_STANDIN = r"(?![$%<*{\[]|(?i:(?:\w{1,8}[-_])?(?:x{3}|your|example|placeholder|change_?me|dummy|redacted)))"  # stands for a value
_ALONE = r"(?:(?<![A-Za-z0-9_])|(?<=\\n))"  # no part of a longer word; in JSON a line may begin with \n

# known by the maker's own prefix: the kind, the prefixes, and what follows them
_BEGINNINGS = (
    ("GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", rf"{_WORD}{{30,}}"),
    ("GitHub token", "github_pat_", r"[A-Za-z0-9_]{30,}"),
    ("GitLab token", "glpat- gldt- glrt- glrtr- glcbt- glptt- glft- glimt- glagent- glsoat- gloas- glffct-", r"[\w.-]{20,}"),
    ("Hugging Face token", "hf_ api_org_", rf"{_WORD}{{30,}}"),
    ("OpenAI API key", "sk-proj- sk-svcacct- sk-admin-", r"(?=[A-Za-z_-]{0,60}\d)[\w-]{20,}"),
    ("Anthropic API key", "sk-ant-", r"(?=[A-Za-z_-]{0,60}\d)[\w-]{20,}"),
    ("OpenRouter API key", "sk-or-", r"(?=[A-Za-z_-]{0,60}\d)[\w-]{20,}"),
    ("Groq API key", "gsk_", rf"{_WORD}{{40,}}"),
    ("NVIDIA API key", "nvapi-", r"[\w-]{40,}"),
    ("xAI API key", "xai-", rf"{_WORD}{{40,}}"),
    ("Perplexity API key", "pplx-", rf"{_WORD}{{40,}}"),
    ("Cerebras API key", "csk-", r"[a-z0-9]{40,}"),
    ("Replicate token", "r8_", rf"{_WORD}{{30,}}"),
    ("Fireworks API key", "fw_", rf"{_MIXED}{_WORD}{{20,}}"),
    ("Together API key", "tgp_v1_", r"[\w-]{30,}"),
    ("LangSmith API key", "lsv2_pt_ lsv2_sk_", r"\w{30,}"),
    ("Pinecone API key", "pcsk_", r"\w{40,}"),
    ("Tavily API key", "tvly-", r"(?=[A-Za-z-]{0,40}\d)[\w-]{20,}"),
    ("W&B API key", "wandb_v1_", r"\w{20,}"),
    ("Kaggle token", "KGAT_", rf"{_HEX}{{32}}"),
    ("Databricks token", "dapi", rf"{_HEX}{{32}}(?:-\d)?(?!{_WORD})"),
    ("RunPod API key", "rpa_", rf"{_WORD}{{20,}}"),
    ("npm token", "npm_", rf"{_WORD}{{30,}}"),
    ("PyPI token", "pypi-AgE", r"[\w-]{30,}"),
    ("RubyGems token", "rubygems_", rf"{_HEX}{{40,}}"),
    ("Docker Hub token", "dckr_pat_ dckr_oat_", r"[\w-]{20,}"),
    ("Stripe key", "sk_live_ rk_live_ sk_test_ rk_test_ whsec_", rf"{_WORD}{{20,}}"),
    ("SendGrid API key", "SG.", r"[\w-]{20,24}\.[\w-]{40,}"),
    ("Mailgun API key", "key-", rf"{_HEX}{{32}}(?!{_WORD})"),
    ("Twilio API key", "SK", rf"{_HEX}{{32}}(?!{_WORD})"),
    ("Slack token", "xoxa- xoxb- xoxe- xoxe. xoxo- xoxp- xoxr- xoxs- xapp-", r"[A-Za-z0-9.-]{10,}"),
    ("Google API key", "AIza", r"[\w-]{35}(?![\w-])"),
    ("Google OAuth token", "ya29. GOCSPX-", r"[\w-]{24,}"),
    ("AWS access key id", "AKIA ASIA", rf"[A-Z0-9]{{16}}(?!{_WORD})"),
    ("AWS session token", "IQoJ FwoGZXIv", rf"{_BASE64}{{60,}}={{0,2}}"),
    ("DigitalOcean token", "dop_v1_ doo_v1_ dor_v1_", rf"{_HEX}{{40,}}"),
    ("Vault token", "hvs. hvb. hvr.", r"(?=[A-Za-z_-]{0,40}\d)(?=[a-z0-9_-]{0,40}[A-Z])[\w-]{24,}"),
    ("Doppler token", "dp.pt. dp.st. dp.ct. dp.sa. dp.scim. dp.audit.", r"[\w.-]{30,}"),
    ("Pulumi token", "pul-", rf"{_HEX}{{40}}"),
    ("Fly.io token", "fm1_ fm2_ fo1_", r"[\w+/=,-]{40,}"),
    ("Tailscale key", "tskey-", rf"[a-z]{{2,12}}-{_WORD}{{8,}}-?{_WORD}{{8,}}"),
    ("Grafana token", "glsa_ glc_", r"[A-Za-z0-9+/_]{30,}={0,2}"),
    ("Sentry token", "sntrys_ sntryu_", r"[\w+/=-]{40,}"),
    ("New Relic API key", "NRAK-", r"[A-Z0-9]{27}"),
    ("Supabase token", "sbp_ sb_secret_", r"[\w-]{20,}"),
    ("Linear API key", "lin_api_ lin_oauth_", rf"{_WORD}{{30,}}"),
    ("Notion token", "ntn_", rf"{_WORD}{{40,}}"),
    ("Notion token", "secret_", rf"(?=[A-Za-z]{{0,42}}\d){_WORD}{{43}}(?!\w)"),
    ("Atlassian token", "ATATT3 ATCTT3", r"[\w=-]{60,}"),
    ("Figma token", "figd_", r"[\w-]{30,}"),
    ("Postman API key", "PMAK-", rf"{_HEX}{{24}}-{_HEX}{{34}}"),
    ("Shopify token", "shpat_ shpca_ shppa_ shpss_", r"[0-9a-fA-F]{32}"),
    ("1Password token", "ops_eyJ", r"[\w-]{60,}"),
    ("age secret key", "AGE-SECRET-KEY-1", r"[0-9A-Z]{50,}"),
    ("Docker registry login", "eyJhdXRocyI6 ewogICJhdXRocyI6 ewoJImF1dGhzIjog", rf"{_BASE64}{{20,}}={{0,2}}"),
    ("Neptune API token", "eyJhcGlfYWRkcmVzcyI", rf"{_BASE64}{{40,}}={{0,2}}"),
)  # fmt: skip

# the others: the kind, the signs, and the pattern, whose first group is the secret
_OTHERS = (
    ("private key", "private", r"(-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:[^-]++|-(?!----))*+(?:-----END [A-Z0-9 ]{1,60}-----)?)"),
    ("password in a URL", "://", r"""://(?![^\s/:@"'<>]*+:(?:[{$<*]|%[({s]|(?i:guest|pass(?:word|wd)?)@))([^\s/:@"'<>]*+:(?!\d{1,5}@)[^\s/"'<>,?|]+)@"""),
    ("Slack webhook", "hooks.slack.com", r"hooks\.slack\.com/(?:services|workflows|triggers)/((?=[A-Za-z/+_-]{0,60}\d)[\w/+-]{20,})"),
    ("Discord webhook", "discord", r"(?i:discord(?:app)?\.com/api/)(?:v\d{1,2}/)?webhooks/(\d{15,21}/[\w-]{40,})"),
    ("Teams webhook", "webhook.office.com", rf"webhook\.office\.com/(webhookb2/[\w@-]{{60,}}/IncomingWebhook/{_HEX}{{32}}/[\w-]{{20,}})"),
    ("Zapier webhook", "hooks.zapier.com", r"hooks\.zapier\.com/hooks/catch/(\d{4,}/\w{5,})"),
    ("Telegram bot token", ":aa", r"(?<!\w)(?:bot)?(\d{8,10}:AA[\w-]{33})(?![\w-])"),
    ("sk- API key", "sk-", r"(?<![\w-])(sk-(?!proj-|svcacct-|admin-|ant-|or-|(?i:x{3}|your|example))(?=[A-Za-z_-]{0,40}[0-9])[A-Za-z0-9_-]{20,})"),
    ("JSON Web Token", "eyj", r"(?<![\w-])(eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"),
    ("bearer token", "bearer", r"(?<!\w)(?i:bearer)\s{1,9}((?=[A-Za-z._~+/-]{0,99}\d)[A-Za-z0-9._~+/-]{20,}=*)"),
    ("Authorization header", "authorization", r"""(?i:authorization)["'\s:=,]{1,9}(?i:basic|token|apikey|api-key)\s{1,9}((?=[A-Za-z._~+/-]{0,99}[\d=])[A-Za-z0-9._~+/-]{12,}={0,2})"""),
    ("W&B API key", "wandb", rf"""(?>(?i:wandb)[^\n]{{0,80}}?(?i:key|login|api))(?:(?!(?i:commit|\bsha|\brev))[^\n]){{0,90}}(?<!{_HEX})({_HEX}{{40}})(?!{_HEX})"""),
    ("W&B API key", "wandb", rf"""(?i:wandb)["']?\s{{0,3}}:\s{{1,40}}["']?key["']?:\s{{0,3}}["']?({_HEX}{{40}})(?!{_HEX})"""),
    ("Kaggle key", "username", rf"""\\?"username\\?"\s{{0,9}}:\s{{0,9}}\\?"[^"\n]{{1,64}}"\s{{0,9}},\s{{0,9}}\\?"key\\?"\s{{0,9}}:\s{{0,9}}\\?"({_HEX}{{32}})(?!{_HEX})"""),
    ("Kaggle key", "username", rf"""\\?"key\\?"\s{{0,9}}:\s{{0,9}}\\?"({_HEX}{{32}})\\?"\s{{0,9}},\s{{0,9}}\\?"username\\?"\s{{0,9}}:"""),
    ("netrc password", "machine", rf"""(?<!\w)machine(?:\s|\\n){{1,20}}(?:localhost|[\w-]{{1,60}}\.[\w.:-]{{1,200}})(?:\s|\\n){{1,20}}login(?:\s|\\n){{1,20}}[^\s\\]{{1,200}}(?:\s|\\n){{1,20}}password(?:\s|\\n){{1,20}}{_STANDIN}([^\s\\"']{{4,200}})"""),
    ("Docker registry login", "auth", r"""\\?"auth\\?"\s{0,9}:\s{0,9}\\?"((?=[A-Za-z+/]{0,99}\d)(?=[a-z0-9+/]{0,99}[A-Z])[A-Za-z0-9+/]{12,}={0,2})(?=\\?")"""),
    ("npm registry login", "_auth", r"""(?<!\w)_auth(?:Token)?\s{0,3}=\s{0,3}["']?((?=[A-Za-z+/_-]{0,99}\d)[A-Za-z0-9+/_-]{16,}={0,2})"""),
    ("password on a command line", "curl", rf"""(?<!\w)curl\s[^\n]{{0,120}}?\s(?:-u|--user)[ =]["']?[^\s:"'$<]{{1,64}}:{_STANDIN}([^\s"'$<]{{4,}})"""),
    ("password on a command line", "sshpass", rf"""(?<!\w)sshpass\s{{1,9}}-p\s{{0,9}}["']?{_STANDIN}([^\s"']{{4,}})"""),
    ("AWS secret access key", "aws", r"""(?i:aws_?secret_?(?:access_?)?key)["'\]]{0,3}\s{0,9}[=:,]\s{0,9}["']?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"""),
    ("Azure account key", "key=", rf"(?:AccountKey|SharedAccessKey)=({_BASE64}{{40,88}}={{0,2}})"),
    ("Azure shared access signature", "sig=", r"[?&;]sig=([A-Za-z0-9+/%]{40,}={0,2})"),
    ("Azure client secret", "q~", r"(?<![\w.~-])([A-Za-z0-9_.~-]{3}\dQ~[A-Za-z0-9_.~-]{31,34})(?![\w.~-])"),
    ("Terraform token", ".atlasv1.", r"(?<!\w)([A-Za-z0-9]{14}\.atlasv1\.[\w-]{60,})"),
)  # fmt: skip

NAMED = "value of a secret name"
# what every name of a secret has in it
NAME_SIGNS = ("key", "token", "secret", "pass", "pwd", "auth", "cred", "bearer")
_LETTER_AND_DIGIT = r"(?=[A-Za-z/+-]{0,99}\d)(?=[\d/+-]{0,99}[A-Za-z])"
_NAME = r"(?<![\w-])(?:--)?([A-Za-z][\w-]{2,60})"
# a name and its value, in code, TOML, JSON, YAML or a shell: quoted in any way, or right after `NAME=` or `NAME: `; with
# letters and digits, unlike a word or an identifier
_ASSIGNED = (
    _NAME + r"""(?:\\{0,3}["'`\]]){0,3}(?:\s{0,9}(?:=>|[=:,])\s{0,9}[\[({]?|\s)[bBfFrRuU$]{0,2}\\{0,3}(?:["'`\u201c\u2018]{1,3}|&quot;|&#34;|&#39;)"""
    + _STANDIN
    + r"""((?=[^"'`\d\\&]{0,99}\d)(?=[^"'`A-Za-z\\&]{0,99}[A-Za-z])[\w/+=.~!@#$%^*:?-]{6,})(?=\\|["'`\u201d\u2019]|&(?:quot|#3[49]);)""",
    rf"{_NAME}(?:=|:[ \t]{{1,9}}){_STANDIN}({_LETTER_AND_DIGIT}[A-Za-z0-9/+-]{{16,}}+={{0,2}})(?![\w.(\[])",
    rf"(?<![\w-])--([A-Za-z][\w-]{{2,60}})[ \t]{{1,9}}{_STANDIN}({_LETTER_AND_DIGIT}[A-Za-z0-9/+-]{{16,}}+={{0,2}})(?![\w.(\[])",
    # in a .env file and a shell, where no code stands: `NAME=value` to the next blank
    rf"""(?<![\w-])([A-Z][A-Z0-9_]{{2,60}})={_STANDIN}((?=[A-Za-z_.~/+-]{{0,99}}\d)(?=[\d_.~/+-]{{0,99}}[A-Za-z])[\w.~/+-]{{16,}}+={{0,2}})(?=[\s"'\\;&]|\Z)""",
    # a password is short: to the end of its line, or after its option
    rf"""(?<![\w-])(?i:((?:\w{{1,40}}_)?(?:password|passwd|passphrase|pgpassword)))(?:=|:[ \t]{{1,9}}){_STANDIN}((?=[A-Za-z_!@#%^&*+=~?-]{{0,60}}\d)(?=[\d_!@#%^&*+=~?-]{{0,60}}[A-Za-z])[\w!@#%^&*+=~?-]{{7,60}})(?=[ \t\r]{{0,9}}(?:\n|\\n|\Z))""",
    rf"""(?<![\w-])--((?:[\w-]{{1,40}}-)?(?:password|passwd|passphrase))(?:=|[ \t]{{1,9}}){_STANDIN}((?=[A-Za-z_!@#%^&*+=~?-]{{0,60}}\d)[\w!@#%^&*+=~?-]{{6,60}})(?=[\s"'\\]|\Z)""",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What the secrets of one kind look like."""

    kind: str
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patterns:
    """The forms by their signs: as they stand, or in small letters; and the assignments to a name."""

    begun: tuple[tuple[str, Form], ...]
    others: tuple[tuple[str, Form], ...]
    assigned: tuple[re.Pattern[str], ...]

    def of(self, text: str, lowered: str) -> list[Form]:
        """Return the forms that a text may hold, once each; `lowered` is the same text in small letters."""
        begun = [form for sign, form in self.begun if sign in text]
        return list(dict.fromkeys(begun + [form for sign, form in self.others if sign in lowered]))


@cache
def patterns() -> Patterns:
    """Compile the table, which takes longer than most commands need it."""
    begun: list[tuple[str, Form]] = []
    for kind, beginnings, rest in _BEGINNINGS:
        signs = beginnings.split()
        pattern = rf"{_ALONE}((?:{'|'.join(map(re.escape, signs))}){_STANDIN}{rest})"
        form = Form(kind=kind, pattern=re.compile(pattern))
        begun += [(sign, form) for sign in signs]
    others = ((sign, Form(kind=kind, pattern=re.compile(form))) for kind, sign, form in _OTHERS)
    return Patterns(begun=tuple(begun), others=tuple(others), assigned=tuple(map(re.compile, _ASSIGNED)))
