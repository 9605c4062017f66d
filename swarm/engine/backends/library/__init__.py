"""Single layers of any decoder-only model of the transformers library, behind the interfaces of our own engine.

Slower than the engine, for architectures that it does not know. The only package of swarm that imports transformers, and
whoever imports this one does so when it is asked for (`swarm.engine.backends`). No code of a model is ever run.
"""

from transformers.utils import logging

logging.set_verbosity_error()  # its remarks are for those who call it
logging.disable_progress_bar()
