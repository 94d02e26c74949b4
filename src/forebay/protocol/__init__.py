"""The wire rules: pure functions and tables. The head of a request in, a command out; results in,
header fields out. No socket, file, clock or random source.

    any request     fields, parameters, structured_fields, http_dates (values of fields)
                    authority, forwarded, origin (who may ask), content_type, content_codings,
                    negotiation, preconditions, names (of files), upload_ids
    bodies          raw (PUT and POST), chunked (transfer coding), checksums, digest_fields
                    whole_file, unsupported_chunking (parts that must not be stored as files)
    resumable       tus, tus_checksum, tus_concat, tus_metadata; ietf; partial (Content-Range);
                    creation (the command of the last two)
    forms           form_request, form_type, charsets; multipart (the parser), multipart_delimiter,
                    multipart_head (of a part), multipart_parts, multipart_limits
    downloads       ranges
    responses       status (of errors), response_fields (which may be repeated)
"""
