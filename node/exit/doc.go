// Package exit says what an error means for the process: the classes of errors that end it, the
// exit code of each, and DamageWatch, which ends a run at the first report of damage.
package exit
