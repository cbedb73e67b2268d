"""What counts as a secret, and that none is left in a text that was redacted."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.untrusted.secrets import redacted, redacted_value, secret_lines, secret_name, secret_value

# put together here, so that no scanner takes this file for a leak
RANDOM = "q8Zr2LxP0vT7mK4nB9wJ6sD3fH1gC5yA"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYqW0rT4eXam"
SECRETS = {
    "AWS access key id": "AKIA" + "Q3EGRIOSFODNN7XY",
    "Hugging Face token": "hf_" + RANDOM,
    "GitHub token": "ghp_" + RANDOM + "0aB1",
    "GitLab token": "glpat-" + RANDOM[:20],
    "OpenAI API key": "sk-" + "proj-" + RANDOM,
    "Slack token": "xoxb-" + "123456789012-" + RANDOM[:12],
    "Google API key": "AIza" + RANDOM + "x-_",
    "JSON Web Token": "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0In0" + "." + RANDOM,
    "private key": "-----BEGIN RSA PRIVATE" + " KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIEow+a/b=\n" + RANDOM
    + "\n-----END RSA PRIVATE" + " KEY-----",
}  # fmt: skip
# (a text that holds the secret in its middle, the secret, its kind)
IN_CONTEXT = [
    ("postgres://me:" + RANDOM + "@db.example/runs", RANDOM, "password in a URL"),
    ("redis://:p@ss:" + "w0rd@cache:6379", "p@ss:w0rd", "password in a URL"),
    ("aws_secret_access_key = " + AWS_SECRET, AWS_SECRET, "AWS secret access key"),
    ('os.environ["AWS_SECRET_ACCESS_KEY"] = "' + AWS_SECRET + '"', AWS_SECRET, "AWS secret access key"),
    ("Authorization: Bearer " + RANDOM, RANDOM, "bearer token"),
    ('wandb.login(key="' + "0123456789abcdef" * 2 + '01234567")', "0123456789abcdef", "W&B API key"),
    ('{"api_key": "' + RANDOM + '"}', RANDOM, "value of a secret name"),
    ("export DB_PASSWORD=" + RANDOM, RANDOM, "value of a secret name"),
    ("wandb login " + "0123456789abcdef" * 2 + "01234567", "0123456789abcdef", "W&B API key"),
    ("WANDB_API_KEY: " + "0123456789abcdef" * 2 + "01234567", "0123456789abcdef", "W&B API key"),
    ("RUNPOD_API_KEY=" + "rpa_" + RANDOM, RANDOM, "RunPod API key"),
    ("export AWS_SESSION_TOKEN=" + "IQoJ" + RANDOM * 3, RANDOM, "AWS session token"),
    ("environ({'NEPTUNE_API_TOKEN': '" + RANDOM + "'})", RANDOM, "value of a secret name"),
    ('os.environ.get("STORE_API_KEY", "' + RANDOM + '")', RANDOM, "value of a secret name"),
]
QUOTED = [  # {} is the secret
    '"HF_TOKEN": "{}"', "token='{}'", 'api_key = "{}"', 'export HF_TOKEN="{}"', "os.environ['HF_TOKEN'] = '{}'", 'HF_TOKEN="""{}"""',
    '{{\\"HF_TOKEN\\": \\"{}\\"}}', "token=f'{}'", "token=b'{}'", "--token '{}'", '--api-key "{}"', "--token={}", "--hf-token {}", "secret_key=`{}`",
    "HF_TOKEN=\u201c{}\u201d", "HF_TOKEN => '{}'", "export HF_TOKEN=$'{}'", '"token": ["{}"]', "HF_TOKEN=&quot;{}&quot;", "api_key: {}", "api_key: '{}'",
]  # fmt: skip


@pytest.mark.parametrize("form", QUOTED)
def test_a_secret_in_any_quotes_is_taken_out(form: str) -> None:
    text = form.format(RANDOM)
    assert secret_value(text) == "value of a secret name"
    assert RANDOM not in redacted(text)
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.parametrize("text", ['export DB_PASSWORD="hunt3r2"', "'password': 'hunter2!x'", 'api_key="q8Zr2LxP0v"'])
def test_a_short_password_in_quotes_is_one_too(text: str) -> None:
    assert "[secret: value of a secret name]" in redacted(text)


def test_the_value_of_a_name_is_redacted_by_its_name() -> None:
    assert redacted_value("HF_TOKEN", RANDOM) == "[secret: value of a secret name]"
    assert redacted_value("note", SECRETS["Hugging Face token"]) == "[secret: Hugging Face token]"
    assert redacted_value("lr", "0.1") == "0.1"


HARMLESS = [
    "", "step:1/20000 train_loss:6.9357 step_avg:71.5ms", "final_int8_zlib_roundtrip_exact val_loss:2.0286 val_bpb:1.2014",
    "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "commit a1ba5774b8d12f4c6d7e8f9012345678901234ab",
    "import sklearn  # sk-learn-style-estimators-are-fine", "hf_hub_download(repo_id='x/y', repo_type='dataset')",
    "git@github.com:owner/name.git", "http://127.0.0.1:8265/api", "https://user@host/path", "http://[::1]:29500",
    'f"postgres://{user}:{password}@{host}/db"', "postgres://$USER:$PASSWORD@host", "amqp://guest:guest@localhost:5672",
    'api_key = os.environ["STORE_API_KEY_NUMBER_1"]', "login(api_key=config.store1.api_key_of_mine)",
    "login(api_key=storeconfig1234567890.key)", "login(secret=storeconfig1234567890(2))",
    "password = getpass.getpass('Password of user 1234567890: ')", "the secret = 'no digits in this sentence'",
    "wandb: Synced run, commit 'a1ba5774b8d12f4c6d7e8f9012345678901234ab'", "Bearer token_embedding.weight.shape",
    "'http://www.x.com:8080,mail:joe@x.com'", "redis://cache:6379@x", "https://example.com:443?x=me@y.org",
    "TRAIN_TOKEN=4096", "CLASS_TOKEN = 'abc123'", "run_name='longer-context-4096-v2'", "commit=a1ba5774b8d12f4c6d7e8f90",
    "AKIAQ3EGRIOSFODNN7XYZ", "eyJhbGciOi.eyJ", "AIza-too-short", "AIza" + RANDOM + "-too-long", "bearer of good news", "TASK-risk-1234567890123456789012",
]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "hf_token",
        "WANDB_API_KEY", "hfToken", "OPENAI_APIKEY", "GITHUB_TOKEN", "TOKEN", "HF_TOKEN_2", "SSH_PASSPHRASE", "MY_PRIVATE_KEY",
        "DB_PASSWORD", "PGPASSWORD", "MYSQL_PWD", "DB_PASS", "CLIENT_SECRET", "SECRET", "GOOGLE_CREDENTIALS", "REDIS_AUTH",
        "AccountKey", "NEPTUNE_API_TOKEN",
    ],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "TOKENIZER_PATH", "NUM_TOKENS", "TRAIN_BATCH_TOKENS", "KEY_DIM", "TOKENS", "EOS_TOKEN", "PAD_TOKEN_ID", "TOKEN_BUDGET",
        "BYTES_PER_TOKEN", "MULTI_TOKEN_PREDICTION", "NUM_KV_HEADS", "KEYS", "MONKEY", "PWD", "OLDPWD", "HF_TOKEN_PATH",
        "AWS_SHARED_CREDENTIALS_FILE", "SSH_AUTH_SOCK", "PASSES", "BYPASS", "NUM_PASS", "QK_GAIN_INIT", "ROTARY_KEY", "AUTHOR",
        "DATA_PATH", "SECRETARY", "TOKENIZERS_PARALLELISM", "DATABASE_URL", "SEED",
    ],
)  # fmt: skip
def test_names_of_other_things(name: str) -> None:
    assert not secret_name(name)


def test_a_name_that_ends_like_a_secret_needs_a_value_that_may_be_one() -> None:
    assert not secret_name("CLASS_TOKEN", "[CLS]")
    assert secret_name("CLASS_TOKEN", RANDOM)
    assert secret_name("DB_PASSWORD", "1")


@pytest.mark.parametrize(("kind", "secret"), SECRETS.items())
def test_a_secret_of_a_known_form_is_named_and_taken_out(kind: str, secret: str) -> None:
    text = f"first\nkey: {secret}, last"
    assert secret_value(text) == kind
    assert secret_lines(text) == [(2, kind)]
    assert redacted(text) == f"first\nkey: [secret: {kind}], last"


@pytest.mark.parametrize(("text", "secret", "kind"), IN_CONTEXT)
def test_a_secret_known_by_what_stands_before_it(text: str, secret: str, kind: str) -> None:
    assert secret_value(text) == kind
    left = redacted(text)
    assert secret not in left
    assert f"[secret: {kind}]" in left
    assert left.startswith(text[:8])  # what is no secret stays readable
    assert redacted(left) == left


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret(text: str) -> None:
    assert secret_value(text) is None
    assert redacted(text) == text


def test_all_of_a_text_in_order_with_their_lines() -> None:
    text = "\n".join(
        ["a", SECRETS["Slack token"], "", SECRETS["Hugging Face token"] + " " + SECRETS["AWS access key id"]]
    )
    assert secret_lines(text) == [(2, "Slack token"), (4, "Hugging Face token"), (4, "AWS access key id")]


def test_a_private_key_that_is_cut_off_is_taken_out_to_its_end() -> None:
    key = SECRETS["private key"]
    assert redacted("a " + key[: len(key) // 2]) == "a [secret: private key]"


around = st.text(alphabet=st.sampled_from(" \n\t'\"(){}[],;:=abc019_-./@"), max_size=60)


@given(before=around, after=around, planted=st.sampled_from(sorted(SECRETS.items())))
def test_a_planted_secret_never_survives(before: str, after: str, planted: tuple[str, str]) -> None:
    kind, secret = planted
    text = f"{before} {secret} {after}"
    assert (before.count("\n") + 1, kind) in secret_lines(text)
    left = redacted(text)
    assert secret not in left
    assert left.startswith(f"{before} [secret: ")
    assert secret_value(left) is None


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


LEADING_ON = [
    "eyJ", "eyJaaaaaaaa.", "sk-a", "github_pat_", "://", "://a:", "://a:b", "://a:@", "api_key=", "api_key='", "secret'  ",
    "secret=1a", "secret=1a_", "secret=1abcdefghijklmnopqrstu", "-----BEGIN ", "-----BEGIN RSA PRIVATE" + " KEY-----\n-",
    "Bearer   ", "bearer a", "wandb", "wandb'", "xoxb-", "aws_secret_key=", "\n", "a", "hf_" + "a" * 29 + " ",
    "wandb key", "wandb key" + "f" * 39 + " ", "machine a.b login ", "machine a.b login a password ", "curl ", "curl a -u ", 'a"auth":"aA1', "KEY=a1", "KEY=a1.",
    "password: a1 ", "PASSWORD=a1", "glpat-", '"username": "a", ', '"key": "', "--password ", "a.atlasv1.", "?sig=", "authorization: basic ", "8Q~", "dp.pt.", "_auth=",
]  # fmt: skip


@pytest.mark.parametrize(
    ("unit", "size"),
    [*((unit, 2**18) for unit in LEADING_ON), ("".join(LEADING_ON), 2**20)],
    ids=lambda v: repr(v)[:20],
)
def test_the_time_grows_with_the_text_and_no_faster(unit: str, size: int) -> None:
    """A long text of what leads each pattern on; one that backtracks would take minutes to hours."""
    text = (unit * (size // len(unit) + 1))[:size]
    started = time.process_time()
    redacted(text)
    assert time.process_time() - started < size / 2**20 * 8
