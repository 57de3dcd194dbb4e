package p2p

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/libp2p/go-libp2p/core/crypto"
	pb "github.com/libp2p/go-libp2p/core/crypto/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	mss "github.com/multiformats/go-multistream"
	"google.golang.org/protobuf/proto"
)

// hugeRSA is a public key of so many bits as libp2p writes it. To check a signature of it takes time that grows
// with the cube of its length.
func hugeRSA(t testing.TB, bits uint) []byte {
	t.Helper()
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	n.SetBit(n, 0, 1)
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(&pb.PublicKey{Type: pb.KeyType_RSA.Enum(), Data: der})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// shake begins a connection by hand, up to and including the TLS handshake, under a key.
func shake(t testing.TB, to *Node, publicKey []byte) error {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := asn1.Marshal(struct{ PubKey, Signature []byte }{publicKey, bytes.Repeat([]byte{1}, 256)})
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 53594, 1, 1}, Value: signed}},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	port, err := info(t, to).Addrs[0].ValueForProtocol(6)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := mss.SelectProtoOrFail("/tls/1.0.0", conn); err != nil {
		t.Fatal(err)
	}
	c := tls.Client(conn, &tls.Config{
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"libp2p"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}},
	})
	if err := c.HandshakeContext(t.Context()); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1)) // the server has the last word
	return err
}

func TestKeysThatAreTooLargeAreRefused(t *testing.T) {
	n := open(t)
	grown := watchMemory(t)
	for _, bits := range []uint{8192 + 1, 16 << 10, 64 << 10} {
		raw := hugeRSA(t, bits)
		if _, err := crypto.UnmarshalPublicKey(raw); err == nil {
			t.Errorf("a key of %d bits is read", bits)
		}
		if err := shake(t, n, raw); err == nil {
			t.Errorf("a peer with a key of %d bits is connected", bits)
		}
	}
	if peers := n.Host().Network().Peers(); len(peers) > 0 {
		t.Errorf("connected: %v", peers)
	}
	id, err := peer.IDFromBytes(append([]byte{0x12, 0x20}, bytes.Repeat([]byte{7}, 32)...))
	if err != nil {
		t.Fatal(err)
	}
	// Records carry keys too: one that is too large is no key of theirs.
	v := ipns.Validator{KeyBook: n.Host().Peerstore()}
	record, err := proto.Marshal(&pb.PublicKey{Type: pb.KeyType_RSA.Enum(), Data: hugeRSA(t, 64<<10)})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Validate(string(ipns.NameFromPeer(id).RoutingKey()), record); err == nil {
		t.Error("a record that is a key is valid")
	}
	wantUsable(t, n, 95)
	wantBounded(t, grown)
}
