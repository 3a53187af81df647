"""Devices: speaker clusters, LED boards, sensors and gateways, as a vendor would build them from the wire contract.

An independent second implementation: its only import of ours is `schemas`. The core (`device`, `playback`, `trust`,
`media`, `journal`, `faults`, `clock`, …) computes; the shells (`connector`, `downloader`, `player`, `performer`,
`runner`) touch network, disk, decoder and clock.

What is virtual is said where it is: there is no sound card and no screen (`player`), no thermometer (`physics`), and one
process decodes a file once for all devices that hold the same verified bytes (`player`).
"""
