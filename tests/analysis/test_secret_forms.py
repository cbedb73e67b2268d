"""Every form of a secret that is known, one made-up secret for each; and what only looks like one."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest

from analysis.untrusted.secret_forms import NAMED, patterns
from analysis.untrusted.secrets import redacted, secret_lines
from tests.conftest import ROOT

DICE = random.Random(17)


def made(length: int, alphabet: str = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz0123456789") -> str:
    """Return letters and digits that are nobody's key, with a digit, a capital and a small letter early on."""
    return ("x7Q" + "".join(DICE.choices(alphabet, k=length)))[:length]


def digits(length: int) -> str:
    return "".join(DICE.choices("0123456789abcdef", k=length - 2)) + "a7"


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


HEX40, PASSWORD, DOCKER = digits(40), "hunt3r" + "2xQ", basic("joe", "S3cr3tWord")
# (the kind, what stands before the secret, the secret, what stands after it); beginnings are put together here, so that no
# scanner takes this file for a leak
FOUND = [
    *(("GitHub token", f"{kind}: ", "gh" + kind + "_" + made(36), "") for kind in "pousr"),
    ("GitHub token", "git clone with ", "github" + "_pat_" + made(22) + "_" + made(59), " today"),
    *(("GitLab token", "t=", "gl" + kind + "-" + made(20), "") for kind in ("pat", "rt", "dt", "ptt", "agent")),
    ("Hugging Face token", "login('", "hf" + "_" + made(34), "')"),
    ("Hugging Face token", '{"line": "a\\n', "hf" + "_" + made(34), '"}'),
    ("Hugging Face token", "", "api" + "_org_" + made(34), ""),
    ("OpenAI API key", "OPENAI_API_KEY=", "sk" + "-proj-" + made(40) + "T3Blbk" + "FJ" + made(40), ""),
    ("OpenAI API key", "", "sk" + "-svcacct-" + made(60), ""),
    ("sk- API key", "", "sk" + "-" + made(48), ""),
    ("Anthropic API key", "export ANTHROPIC_API_KEY=", "sk" + "-ant-api03-" + made(93) + "AA", ""),
    ("OpenRouter API key", "", "sk" + "-or-v1-" + digits(64), ""),
    ("Groq API key", "client = Groq('", "gsk" + "_" + made(52), "')"),
    ("NVIDIA API key", "docker login -p ", "nv" + "api-" + made(64), ""),
    ("xAI API key", "", "xa" + "i-" + made(80), ""),
    ("Perplexity API key", "", "pp" + "lx-" + made(48), ""),
    ("Cerebras API key", "", "cs" + "k-" + digits(48), ""),
    ("Replicate token", "", "r" + "8_" + made(37), ""),
    ("Fireworks API key", "", "f" + "w_" + made(24), ""),
    ("Together API key", "", "tgp" + "_v1_" + made(43), ""),
    ("LangSmith API key", "", "lsv2" + "_pt_" + digits(32) + "_" + digits(10), ""),
    ("Pinecone API key", "", "pc" + "sk_" + made(60), ""),
    ("Tavily API key", "", "tv" + "ly-dev-" + made(32), ""),
    ("W&B API key", "", "wandb" + "_v1_" + made(60), ""),
    ("W&B API key", "wandb login --relogin ", HEX40, ""),
    ("W&B API key", "wandb: Paste an API key from your profile and hit enter, or press ctrl+c to quit: ", HEX40, ""),
    ("W&B API key", 'wandb.login(anonymous="never", key="', HEX40, '")'),
    ("W&B API key", "wandb:\n  key: ", HEX40, ""),
    ("W&B API key", "WANDB_KEY=", HEX40, ""),
    ("Kaggle token", "", "KG" + "AT_" + digits(32), ""),
    ("Kaggle key", '{"username":"joe","key":"', digits(32), '"}'),
    ("Kaggle key", '{\n  "key": "', digits(32), '",\n  "username": "joe"}'),
    (NAMED, "export KAGGLE_KEY=", digits(32), ""),
    ("Databricks token", "", "da" + "pi" + digits(32) + "-2", ""),
    ("RunPod API key", "", "rp" + "a_" + made(40), ""),
    ("Neptune API token", "NEPTUNE_API_TOKEN: ", "eyJhcGlf" + "YWRkcmVzcyI" + made(120) + "==", ""),
    (NAMED, 'comet_ml.init(api_key="', made(25), '")'),
    (NAMED, "MISTRAL_API_KEY=", made(32), ""),
    (NAMED, "COHERE_API_KEY: ", made(40), ""),
    (NAMED, "TOGETHER_API_KEY=", digits(64), ""),
    ("password in a URL", "mlflow.set_tracking_uri('https://joe:", "s3cr3t" + PASSWORD, "@mlflow.example.com')"),
    ("netrc password", "machine api.wandb.ai\n  login user\n  password ", HEX40, "\n"),
    ("netrc password", '"machine github.com\\n  login joe\\n  password ', PASSWORD, '\\n"'),
    ("netrc password", "machine github.com login joe password ", PASSWORD, ""),
    ("Docker registry login", '{"auths": {"ghcr.io": {"auth": "', DOCKER, '"}}}'),
    ("Docker registry login", ".dockerconfigjson: ", "eyJhdXRo" + "cyI6" + made(80), ""),
    ("Docker Hub token", "", "dckr" + "_pat_" + made(27), ""),
    ("npm token", "//registry.npmjs.org/:_authToken=", "np" + "m_" + made(36), ""),
    ("npm registry login", "_auth=", DOCKER, ""),
    ("PyPI token", "password = ", "pypi" + "-AgEIcHlwaS5vcmc" + made(100), ""),
    ("RubyGems token", "", "ruby" + "gems_" + digits(48), ""),
    ("AWS access key id", "", "AS" + "IA" + "Q3EGRIOSFODNN7XY", ""),
    ("AWS secret access key", "aws_secret_access_key = ", made(40), ""),
    ("AWS session token", "", "IQ" + "oJb3JpZ2lu" + made(80), ""),
    ("Google API key", "&key=", "AI" + "za" + made(35), ""),
    ("Google OAuth token", "", "GOC" + "SPX-" + made(28), ""),
    ("private key", '"private_key": "', "-----BEGIN PRIVATE" + " KEY-----\\n" + made(60) + "\\n-----END PRIVATE" + " KEY-----", '\\n"'),
    ("private key", "", "-----BEGIN OPENSSH PRIVATE" + " KEY-----\n" + made(60) + "\n-----END OPENSSH PRIVATE" + " KEY-----", ""),
    ("private key", "", "-----BEGIN PGP PRIVATE" + " KEY BLOCK-----\n\n" + made(60) + "\n-----END PGP PRIVATE" + " KEY BLOCK-----", ""),
    ("age secret key", "", "AGE-SEC" + "RET-KEY-1" + made(58).upper(), ""),
    ("Azure account key", "AccountName=joe;AccountKey" + "=", made(86) + "==", ";EndpointSuffix=core.windows.net"),
    ("Azure shared access signature", "https://joe.blob.core.windows.net/c?sv=2024-08-04&sp=r&sig" + "=", made(43) + "%3D", "&x=1"),
    ("Azure client secret", "", made(3) + "8" + "Q~" + made(34), ""),
    ("Slack token", "", "xo" + "xb-" + "123456789012-" + made(24), ""),
    ("Slack webhook", "https://hooks.slack" + ".com/services/", "T0123ABCD/B0123ABCD/" + made(24), ""),
    ("Discord webhook", "https://discord" + ".com/api/webhooks/", "123456789012345678/" + made(68), ""),
    ("Teams webhook", "https://acme.webhook.office" + ".com/", f"webhookb2/{digits(36)}@{digits(36)}/IncomingWebhook/{digits(32)}/{digits(36)}", ""),
    ("Zapier webhook", "https://hooks.zapier" + ".com/hooks/catch/", "1234567/" + "ab12cd3", "/"),
    ("Telegram bot token", "https://api.telegram.org/bot", "123456789:A" + "A" + made(33), "/sendMessage"),
    ("Stripe key", "", "sk" + "_live_" + made(24), ""),
    ("Stripe key", "", "rk" + "_live_" + made(24), ""),
    ("SendGrid API key", "", "S" + "G." + made(22) + "." + made(43), ""),
    ("Mailgun API key", "", "ke" + "y-" + digits(32), ""),
    ("Twilio API key", "", "S" + "K" + digits(32), ""),
    (NAMED, "TWILIO_AUTH_TOKEN=", digits(32), ""),
    ("DigitalOcean token", "", "dop" + "_v1_" + digits(64), ""),
    ("Vault token", "", "hv" + "s." + made(90), ""),
    ("Doppler token", "", "dp" + ".pt." + made(43), ""),
    ("Pulumi token", "", "pu" + "l-" + digits(40), ""),
    ("Fly.io token", "", "fm" + "2_" + made(100), ""),
    ("Tailscale key", "", "ts" + "key-auth-" + made(17) + "-" + made(32), ""),
    ("Grafana token", "", "gl" + "sa_" + made(32) + "_" + digits(8), ""),
    ("Sentry token", "", "sntr" + "ys_" + made(80), ""),
    ("New Relic API key", "", "NR" + "AK-" + made(27).upper(), ""),
    ("Supabase token", "", "sb" + "p_" + digits(40), ""),
    ("Linear API key", "", "lin" + "_api_" + made(40), ""),
    ("Notion token", "", "nt" + "n_" + made(46), ""),
    ("Notion token", "Notion ", "sec" + "ret_" + made(43), ""),
    ("Atlassian token", "", "ATA" + "TT3" + made(180), ""),
    ("Figma token", "", "fi" + "gd_" + made(40), ""),
    ("Postman API key", "", "PM" + "AK-" + digits(24) + "-" + digits(34), ""),
    ("Shopify token", "", "shp" + "at_" + digits(32), ""),
    ("1Password token", "", "ops" + "_eyJ" + made(100), ""),
    ("Terraform token", "", made(14) + ".atlas" + "v1." + made(67), ""),
    ("JSON Web Token", "", "eyJ" + made(20) + ".eyJ" + made(40) + "." + made(43), ""),
    ("bearer token", "-H 'Authorization: Bearer ", made(40), "'"),
    ("Authorization header", "Authorization: Basic ", basic("joe", PASSWORD), ""),
    ("Authorization header", '{"Authorization": "Token ', digits(40), '"}'),
    ("password on a command line", "curl -sS -u joe:", PASSWORD, " https://example.com"),
    ("password on a command line", "sshpass -p ", PASSWORD, " ssh joe@host"),
    (NAMED, "password: ", PASSWORD, "\n"),
    (NAMED, "db_password: '", PASSWORD, "'"),
    (NAMED, "DB_PASSWORD=", PASSWORD, "\n"),
    (NAMED, '"password": "', PASSWORD, '",'),
    (NAMED, "run --db-password ", PASSWORD, " --steps 3"),
    (NAMED, 'token = "', made(24), '"'),
    (NAMED, "api_key: ", made(24), "  # of the store"),
    (NAMED, "train.py --api-key ", made(24), " --steps 3"),
    (NAMED, "STORE_API_KEY=", "v2_" + made(24) + ".eu", "\n"),
    (NAMED, 'client_secret = "', made(10) + "~" + made(20), '"'),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "before", "secret", "after"), FOUND, ids=lambda part: "")
def test_each_is_found_with_its_line_and_never_printed(kind: str, before: str, secret: str, after: str) -> None:
    text = f"first\n{before}{secret}{after}\nlast"
    assert secret_lines(text) == [(2 + before.count("\n"), kind)]
    left = redacted(text)
    assert secret not in left
    assert f"[secret: {kind}]" in left
    assert left.startswith(f"first\n{before}"[:12])
    assert left.endswith("last")
    assert redacted(left) == left


def test_every_row_of_the_table_has_a_secret_here() -> None:
    assert len(FOUND) >= 100
    known = patterns()
    assert {form.kind for _, form in (*known.begun, *known.others)} | {NAMED} == {kind for kind, *_ in FOUND}


HARMLESS = [
    "model: sp1024_bpe_fineweb tokenizer=fineweb_1024_bpe.model", "max_tokens: 1024", "token_count=524288 tokens_per_s=1234567.89",
    "step:100/20000 tokens:52428800 train_loss:3.2100 key_norm:0.99", "tokenizer = 'meta-llama/Llama-3.1-8B-Instruct-2024'",
    "key: value", "key=123456789012345678901234567890", "sort_key: fineweb_val_000000_v2_long_name_1", "key: " + digits(64),
    "cache_key = '" + digits(40) + "'", "git commit " + HEX40, "HEAD is now at " + HEX40[:9] + " Longer context", "sha1: " + digits(40),
    "md5 " + digits(32) + "  data.bin", "artifact sha256=" + digits(64), "digest: sha256:" + digits(64), "image: nvcr.io/nvidia/pytorch@sha256:" + digits(64),
    "wandb: Run data is saved locally in wandb/run-20261129_101500-a1b2c3d4", "wandb: api version 0.19, commit " + HEX40,
    "wandb: View run at https://wandb.ai/joe/golf/runs/a1b2c3d4", "wandb offline; the sha of the run is " + HEX40,
    "run id 7f3d2c1b-0a9e-4c5d-8b7a-6f5e4d3c2b1a", "GPU-7f3d2c1b-0a9e-4c5d-8b7a-6f5e4d3c2b1a", 'password=""', "password: ''", "password:",
    'api_key="<your key>"', "api_key: <YOUR_API_KEY_1>", 'api_key="your-api-key-1234567890"', 'HF_TOKEN="hf_' + "x" * 34 + '"', "OPENAI_API_KEY=sk-" + "your-key-here-1234567890",
    'token = os.environ["HF_TOKEN_OF_JOE_1"]', "token: ${HF_TOKEN_OF_JOE_12345}", "password=$DB_PASSWORD_1", 'password="$DB_PASSWORD_1"', "password = getpass()",
    "password: str | None = None", "def login(password: str, token2: str) -> None:", "self.password = password2", "PASSWORD=%(password1)s", "secret_name(name, value1)",
    "api_key=args.api_key_of_store_1)", "--api-key API_KEY", "--password-file /run/secrets/db1", "machine learning with a login and a password of 12 letters",
    "machine translation: default password policy", "machine HOST login USER password <token>", "each machine asks at login for a password again", "a machine to login with password protected", '"auth": "disabled"', '"auth": "none"', "auth: token", "Authorization: Bearer $TOKEN",
    "Authorization: Basic auth is used", "curl -u $USER:$PASSWORD https://example.com", "curl -u joe https://example.com", "https://hooks.slack.com/services/XXX/YYY/ZZZ",
    "https://discord.com/api/webhooks/ID/TOKEN", '{"username": "joe", "key": "value"}', '"key": "' + digits(32) + '"', "https://example.com/a?sig=short&x=1",
    "pass 1/3", "author: joe", "authority: 1234567890abcdef1234", "keyboard = qwertz1234567890123", "monkey: " + made(20), "hf_hub_download(repo_id)", "fw_model_parameters_of_the_network",
    "hvs.some_python_attribute_of_a_long_name", "secret_lines_of_the_text_and_their_kinds_in_order", "ops_eyJ", "r8_short", "risk-" + digits(32), "TASK" + digits(32),
    base64.b64encode(bytes(range(256))).decode(), "weights: " + base64.b64encode(bytes(range(90, 180))).decode(), "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA" + made(80),
    "eos_token_id: 50256", "pad_token='<|endoftext|>'", "bos_token=special_token_number_000001", "AccountName=joe;AccountKey=", "public_key_fingerprint aa:bb:cc:dd:ee:ff",
    "-----BEGIN PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + made(40) + " joe@host", "num_kv_heads=4 rotary_key=12345678901234567a",
]  # fmt: skip


@pytest.mark.parametrize("line", HARMLESS)
def test_what_only_looks_like_one(line: str) -> None:
    assert len(HARMLESS) >= 70
    assert secret_lines(f"{line}\n{line}") == []
    assert redacted(line) == line


def test_our_own_sources_hold_none() -> None:
    kept = [
        path
        for folder in ("analysis", "orchestration", "trainer", "deploy", "docs", "benchmarks")
        for path in (ROOT / folder).rglob("*")
    ]
    texts = {
        path: path.read_text("utf-8")
        for path in kept
        if path.suffix in {".py", ".md", ".sh", ".toml", ".yaml", ".json"}
    }
    assert len(texts) > 100
    assert {str(path): found for path, text in texts.items() if (found := secret_lines(text))} == {}


def test_the_real_logs_hold_none(real_logs: Path) -> None:
    files = [path for path in real_logs.rglob("*") if path.is_file() and path.stat().st_size < 4_000_000]
    found = {str(path): secret_lines(path.read_text("utf-8", "replace")) for path in files}
    assert len(found) > 10
    assert {path: lines for path, lines in found.items() if lines} == {}
