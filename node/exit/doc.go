// Package exit determines what an error means for the process. It has the classes of errors that
// end the process, the exit code of each class, and DamageWatch, which ends a run at the first
// report of damage.
package exit
