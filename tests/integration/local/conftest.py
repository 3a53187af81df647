"""Parts of one machine's Loa, each with its real collaborator."""

from tests.support.broker import broker as broker
from tests.support.broker import pki as pki
