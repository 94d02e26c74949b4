"""Forms (multipart/form-data): parsed, their files published."""
