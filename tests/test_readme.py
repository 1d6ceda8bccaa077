import re
from pathlib import Path

import pytest
import tifffile

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text("utf-8")


def test_the_python_examples_run_one_after_the_other_and_write_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("expected IoU") == 8 + 7  # all tiles but the taught one, then one fewer
    labels = tifffile.imread(tmp_path / "epithelium.tif")
    assert labels.shape == (9, 170, 170)
    assert all(tile.any() for tile in labels)


def test_every_verb_of_make_exists() -> None:
    verbs = set(re.findall(r"(?:`|\n)make (\w+)", README))
    assert {"demo", "test", "app"} <= verbs
    makefile = (REPOSITORY / "Makefile").read_text()
    assert all(re.search(rf"^{verb}:.*## ", makefile, re.MULTILINE) for verb in verbs)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "weights/README.md"])
def test_every_file_that_a_page_links_to_is_there(page: str) -> None:
    text = (REPOSITORY / page).read_text("utf-8")
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", text) if not t.startswith("https://")]
    missing = [target for target in targets if not (REPOSITORY / page).parent.joinpath(target).exists()]
    assert missing == []
