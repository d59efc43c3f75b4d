// Package backup is the format of a backup: the Sender that sends a home in parts, the Writer that
// makes a directory from the parts, the digests that seal the directory, and its verification.
package backup
