import pytest

for name in ("contract", "publishing", "reading", "resumable", "samples"):
    pytest.register_assert_rewrite(f"{__name__}.{name}")
