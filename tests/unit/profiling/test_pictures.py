import deepseek


def test_pictures_lie_beside_the_table_that_names_them(tmp_path):
    path = deepseek.example("tickets", tmp_path, rows=40)
    found = deepseek.profile(path)
    (pictures,) = [column for column in found["columns"] if column["name"] == "screenshot"]
    assert pictures["unreadable"] == 0
    assert [size["value"] for size in pictures["sizes"]] == ["32×32"]
