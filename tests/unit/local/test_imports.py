"""The fork server makes the imports of all jobs once, unless a job could notice the difference."""

import json
import subprocess
import sys

import cloudpickle
import pytest

from cloudknot.local.runners import fork_server
from cloudknot.local.runners.imports import imports_of


def numpy_by_name():
    """Return a function that refers to the module numpy and to a function of a submodule."""
    space = {}
    exec("import numpy as np\nfrom numpy.linalg import norm\ndef f(x):\n    return norm(np.ones(x))", space)
    return space["f"]


@pytest.fixture
def image(tmp_path):
    (tmp_path / "program" / "modules").mkdir(parents=True)
    (tmp_path / "program" / "function.pkl").write_bytes(cloudpickle.dumps(None))
    return tmp_path


class TestImportsOf:
    def test_modules_of_pickled_objects_are_found(self, image):
        pytest.importorskip("numpy", reason="the pickled function refers to numpy")
        from cloudknot.program import pickling

        (image / "program" / "function.pkl").write_bytes(pickling.dumps(numpy_by_name()))
        assert imports_of(image) == {"importlib": set(), "numpy": set(), "numpy.linalg": set()}

    def test_imports_at_start_of_function_are_found_and_conditional_ones_are_not(self, image):
        source = (
            "def f(x):\n    import numpy as np\n    from dipy.reconst import dti\n    import own\n"
            "    if x:\n        import pandas\n    def g():\n        import scipy\n"
        )
        (image / "program" / "function.py").write_text(source)
        assert imports_of(image) == {"numpy": set(), "dipy.reconst": {"dti"}}

    def test_imports_of_local_modules_are_found_unless_guarded(self, image):
        source = "from scipy import ndimage\ntry:\n    import pandas\nexcept ImportError:\n    pass\n"
        (image / "program" / "modules" / "helper.py").write_text(source)
        assert imports_of(image) == {"scipy": {"ndimage"}}

    def test_module_of_user_hides_package_of_same_name(self, image):
        (image / "program" / "modules" / "numpy.py").write_text("")
        (image / "program" / "function.py").write_text("def f(x):\n    import numpy\n")
        assert imports_of(image) == {}

    def test_unknown_package_is_left_to_jobs(self, image):
        (image / "program" / "function.py").write_text("def f(x):\n    import simulator\n")
        assert imports_of(image) == {}

    def test_script_has_no_imports(self, image):
        (image / "program" / "function.pkl").unlink()
        (image / "program" / "modules" / "script.py").write_text("import numpy\n")
        assert imports_of(image) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="a fork server makes imports on Linux only")
class TestPreload:
    def preload(self, directory, source, own=()):
        """Return the reason why a module with this source code is not imported before the fork."""
        (directory / "package.py").write_text(source)
        modules = directory / "modules"
        modules.mkdir()
        for name in own:
            (modules / f"{name}.py").write_text("")
        program = (
            f"import json, sys\nsys.path[:0] = [{str(directory)!r}]\nimport importlib.util as util\n"
            f"spec = util.spec_from_file_location('fork_server', {fork_server.__file__!r})\n"
            "module = util.module_from_spec(spec)\nspec.loader.exec_module(module)\n"
            f"reason = module.preload({{'package': []}}, {str(modules)!r})\n"
            "with open(sys.argv[1], 'w') as file:\n    json.dump([reason, module.imported_variables], file)\n"
        )
        answer = directory / "answer"
        with (directory / "output").open("w") as output:
            subprocess.run([sys.executable, "-c", program, answer], stdout=output, stderr=output, check=True)
        reason, self.variables = json.loads(answer.read_text())
        return reason

    def test_plain_package_is_imported(self, tmp_path):
        assert self.preload(tmp_path, "import json, random\nx = 1\n") == ""

    def test_new_variable_is_kept_for_jobs(self, tmp_path):
        assert self.preload(tmp_path, "import os\nos.environ['NEW'] = '1'\n") == ""
        assert self.variables == {"NEW": "1"}

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            ("import threading, time\nthreading.Thread(target=time.sleep, args=[9], daemon=True).start()", "thread"),
            ("import random\nown = random.Random()", "an import made a generator"),
            ("import random\nrandom.random()", "the random numbers"),
            ("import random\nrandom.seed(1)", "the random numbers"),
            ("import sys\nfile = open(sys.executable)", "the open files"),
            ("print('hello')", "the output"),
            ("import os\nos.environ['PATH'] = ''", "the environment variables"),
            ("import os\nos.chdir('/')", "the working directory"),
            ("import signal\nsignal.signal(signal.SIGTERM, lambda *_: None)", "the signal handlers"),
            ("1 / 0", "an import failed"),
            ("raise SystemExit", "an import failed"),
        ],
    )
    def test_package_with_visible_effect_is_left_to_jobs(self, tmp_path, source, reason):
        assert reason in self.preload(tmp_path, source)

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            ("import numpy\nown = numpy.random.default_rng()", "an import made a generator"),
            ("import numpy\nown = numpy.random.RandomState()", "an import made a generator"),
            ("import numpy\nnumpy.random.seed(1)", "the random numbers of numpy"),
            ("import numpy\nnumpy.random.random()", "the random numbers of numpy"),
            ("import numpy", ""),
        ],
    )
    def test_random_numbers_of_numpy_are_protected(self, tmp_path, source, reason):
        pytest.importorskip("numpy", reason="the package draws from numpy")
        found = self.preload(tmp_path, source)
        assert reason in found
        assert bool(reason) == bool(found)

    def test_package_that_hides_module_of_user_is_left_to_jobs(self, tmp_path):
        assert "the name calendar" in self.preload(tmp_path, "import calendar", own=["calendar"])
