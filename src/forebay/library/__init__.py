"""Forebay inside an application: `application.Forebay` is the door, the rest is behind it."""
