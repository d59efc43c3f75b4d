// Package backup defines the format of a backup. A Sender sends a home in parts, and a Writer makes
// a directory from the parts. Digests seal the directory, and Verify checks it.
package backup
