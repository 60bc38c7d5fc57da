#!/bin/sh
# Certificates and passwords of docker-compose.yml, made once: /secrets/KIND is the volume that KIND's containers see as
# /secrets, and belongs to their user. The authority stays in a volume that none of them sees.
set -eu
umask 077
cd /secrets
[ ! -e ca/made ] || exit 0

password() { [ -e "ca/$1" ] || python3 -c 'import secrets; print(secrets.token_hex(32))' > "ca/$1"; }
# issue ROLE ID KIND HOSTS: own.pem and own.key of the kind.
issue() {
  wallet-admin ca issue "$1" "$2" --ca ca --renew ${4:+--hosts "$4"}
  install -m 0644 "ca/$1-$2.pem" "$3/own.pem"
  install -m 0600 "ca/$1-$2.key" "$3/own.key"
  install -m 0644 ca/ca.pem "$3/ca.pem"
}

[ -e ca/ca.key ] || wallet-admin ca init ca
issue server redis redis 172.30.7.11,172.30.7.12,172.30.7.13,172.30.7.14,172.30.7.15,172.30.7.16
issue server zookeeper zookeeper zookeeper
issue journal j1 journal journal
issue service api api api-1,api-2,localhost,127.0.0.1
issue admin sre admin ""
cat zookeeper/own.key zookeeper/own.pem > zookeeper/keys.pem

for name in redis-api redis-journal redis-admin redis-replica zookeeper-sre zookeeper-journal zookeeper-api; do password $name.pw; done
for kind in api journal admin; do cp ca/redis-$kind.pw $kind/redis.pw; done
for kind in api journal; do cp ca/zookeeper-$kind.pw $kind/zookeeper.pw; done
cp ca/zookeeper-sre.pw admin/zookeeper.pw
cp ca/zookeeper-journal.pw ca/zookeeper-api.pw admin/

wallet-admin redis acl --api-password-file ca/redis-api.pw --journal-password-file ca/redis-journal.pw \
  --admin-password-file ca/redis-admin.pw | sed 's/^ACL SETUSER/user/' > redis/users.acl
echo "user replica on #$(tr -d '\n' < ca/redis-replica.pw | sha256sum | cut -d ' ' -f 1) +psync +replconf +ping" >> redis/users.acl
echo "user default off" >> redis/users.acl
cat > redis/node.conf <<END
include /etc/wallet/redis.conf
dir /data
bind 0.0.0.0
port 0
tls-port 6379
tls-cluster yes
tls-replication yes
tls-cert-file /secrets/own.pem
tls-key-file /secrets/own.key
tls-ca-cert-file /secrets/ca.pem
masteruser replica
masterauth $(cat ca/redis-replica.pw)
aclfile /secrets/users.acl
END

chown -R 999:999 redis
chown -R 1000:1000 zookeeper journal api admin
touch ca/made
