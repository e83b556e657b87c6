"""The figures of a page with titles, captions and text alternatives, and their one legend."""
