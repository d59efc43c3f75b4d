// Package backup is the format of a backup: what a sender sends, the Writer that makes a directory
// of it, its seal of digests, and its verification.
package backup
