"""Forebay inside an application. `application.Forebay` is the public class."""
