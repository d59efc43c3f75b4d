// Package dump writes the archive that an operator attaches to a bug report: the parts of a report
// in a tar file that is compressed with gzip, and a MANIFEST that says for each part what there is
// of it, or why it is missing.
//
// A part that cannot be had does not keep the others out. Every part that is text is redacted
// before it is written: the secrets of the home, wherever they stand, and what looks like a secret.
package dump
