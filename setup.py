"""What setup.cfg cannot say: a wheel holds compiled kernels, for one platform and any Python 3."""

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel


class CompiledDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return True  # building.py compiles; setuptools has to know that not all of it is Python


class PlatformWheel(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", self.plat_name.lower().replace("-", "_").replace(".", "_")


setup(distclass=CompiledDistribution, cmdclass={"bdist_wheel": PlatformWheel})
