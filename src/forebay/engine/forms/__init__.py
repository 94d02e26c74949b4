"""Forms (multipart/form-data): taken apart, their files published."""
