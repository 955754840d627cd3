"""messages: no secret of a URL survives, hosts and paths stay readable, and an error is one line of bounded length."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import messages

LEAK = "CANARY"
SIGNS = st.text(string.ascii_lowercase + string.digits + "/?#@:&=%+.", max_size=6)
SECRETS = st.builds(lambda before, after: f"{before}{LEAK}{after}", SIGNS, SIGNS)
NAMES = st.text(string.ascii_lowercase + string.digits + "-_", min_size=1, max_size=8)
HOSTS = st.builds(lambda name, port: f"{name}.org{port}", NAMES, st.sampled_from(["", ":9000"]))
PATHS = st.lists(NAMES, max_size=4).map(lambda names: "".join(f"/{name}" for name in names))
SCHEMES = st.sampled_from(["http", "https", "s3", "postgresql"])
QUIET = st.text(string.ascii_letters + " .,()'\n", max_size=20)


@given(SCHEMES, NAMES, SECRETS, HOSTS, PATHS, QUIET)
def test_no_password_survives_whatever_signs_it_holds(scheme, user, secret, host, path, words) -> None:
    url = f"{scheme}://{user}:{secret}@{host}{path}"
    assert LEAK not in messages.public_url(url)
    assert LEAK not in messages.public_url(f"{scheme}://{secret.replace('/', '')}@{host}{path}")
    assert LEAK not in messages.without_secrets(f"{words} {url} {words}")
    assert LEAK not in messages.without_secrets(f"'{user}:{secret.replace('/', '')}@{host}{path}'")


@pytest.mark.parametrize("path", ["//bucket/a.tar", "/bucket/a@2.tar", "/bucket//a@2.tar", "/@", "/a@2.tar?x=1"])
def test_no_password_survives_where_the_scheme_is_missing(path: str) -> None:
    assert LEAK not in messages.without_secrets(f"no answer from 'key:{LEAK}@host:9000{path}'")


@given(SCHEMES, HOSTS, PATHS, NAMES, SECRETS, QUIET)
def test_no_token_or_signature_of_a_query_or_fragment_survives(scheme, host, path, name, secret, words) -> None:
    for sign in "?#":
        url = f"{scheme}://{host}{path}{sign}{name}={secret}"
        assert LEAK not in messages.public_url(url)
        assert LEAK not in messages.without_secrets(f"{words} {url} {words}")
    assert LEAK not in messages.without_secrets(f"with url: {path}?{name}={secret}")


@given(SCHEMES, NAMES, HOSTS, PATHS, NAMES)
def test_host_and_path_stay_readable(scheme, secret, host, path, query) -> None:
    for url in (f"{scheme}://{host}{path}", f"{scheme}://{secret}@{host}{path}?{query}={secret}#{secret}"):
        assert messages.public_url(url) == f"{scheme}://{host}{path}"
        assert messages.without_secrets(f"no {url} there") == f"no {scheme}://{host}{path} there"


@given(st.text(st.characters(exclude_characters="@?#"), max_size=400))
def test_a_text_without_secrets_stays_as_it_is(text) -> None:
    assert messages.without_secrets(text) == text


@pytest.mark.parametrize(
    "path",
    [
        "sqlite:////home/me@work/mlflow.db",
        "/home/me@work/store/a.pth",
        "s3://bucket/of@us/a.pth",
        "https://host.org/a@2.pth",
    ],
)
def test_an_at_sign_in_a_path_is_no_secret_of_a_url_that_has_no_port(path: str) -> None:
    assert messages.public_url(path) == path


@given(st.text())
def test_an_error_is_one_line_of_bounded_length(text) -> None:
    for line in (messages.one_line(text), messages.error_line(OSError(text))):
        assert len(line) <= messages.LONGEST
        assert len(line.splitlines()) <= 1


def test_which_part_of_a_long_error_is_kept() -> None:
    error = RuntimeError("it broke\nhere\n\n" + "x" * 400 + " last")
    assert messages.error_line(error, first_paragraph=True) == "RuntimeError: it broke here"
    assert messages.error_line(error).startswith("RuntimeError: it broke here xxx")
    assert messages.one_line(error, from_end=True).endswith("xxx last")


@pytest.mark.timeout(5)
def test_a_page_without_spaces_takes_no_longer_than_any_other() -> None:
    assert messages.one_line("a?b//c#" * 100_000) == "a"
