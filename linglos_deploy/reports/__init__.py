"""Results as frozen values, and how they are written: JSON, text, HTML, JUnit."""
