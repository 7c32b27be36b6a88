"""Requests and answers of the API, as JSON carries them. Names of fields are those of the reference protocol's API.

Requests refuse fields they do not know, so that a misspelt option is an error and not silence. `*_mb` are MiB (2**20
bytes), as in the reference; inside, the same values are called `*_mib`.

Each topic has its module in `documents`.
"""

from bhatti.operations.documents.base import *
from bhatti.operations.documents.checkpoints import *
from bhatti.operations.documents.files import *
from bhatti.operations.documents.guest import *
from bhatti.operations.documents.images import *
from bhatti.operations.documents.observation import *
from bhatti.operations.documents.ports import *
from bhatti.operations.documents.publications import *
from bhatti.operations.documents.sandboxes import *
from bhatti.operations.documents.secrets import *
from bhatti.operations.documents.system import *
from bhatti.operations.documents.tasks import *
from bhatti.operations.documents.templates import *
from bhatti.operations.documents.users import *
from bhatti.operations.documents.volumes import *
