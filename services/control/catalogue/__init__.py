"""Every text people read, in Vietnamese and English: one catalogue for pages and problem documents."""
