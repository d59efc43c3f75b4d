// Package newcomer asks the nodes of a chain how it came to its epoch, for a node that begins with
// nothing. The nodes give the genesis of epoch 0 and the certificate of each reset. Each
// certificate is checked by the one before it, and the last one must lead to the genesis of the
// present epoch, which the caller knows from elsewhere. So a peer can lie about nothing that
// counts.
package newcomer
