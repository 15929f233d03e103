"""The chat page at `/`: Chainlit's front end on our conversations, offline and without a login.

`mount_page(app, ServicePort(service), about)` is all there is to call. Why Chainlit, and what was
changed about it: `docs/decisions/0003-chat-page.md`.
"""

from local.page.mount import mount_page
from local.page.ports import About, PageService
from local.page.service_port import ServicePort

__all__ = ["About", "PageService", "ServicePort", "mount_page"]
