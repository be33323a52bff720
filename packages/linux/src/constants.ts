/** Numbers of the kernel's interface, the same on x86-64 and arm64. Each group names the header it comes from. */

/** sys/socket.h */
export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_SEQPACKET = 5;
export const SOCK_NONBLOCK = 0x800;
export const SOCK_CLOEXEC = 0x80000;
export const SHUT_WR = 1;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;
export const MSG_CTRUNC = 0x8;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_CMSG_CLOEXEC = 0x40000000;
export const SCM_RIGHTS = 1;

/** asm-generic/socket.h */
export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const SO_ERROR = 4;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_KEEPALIVE = 9;
export const SO_LINGER = 13;
export const SO_PEERCRED = 17;
export const SO_REUSEPORT = 15;
export const SO_ACCEPTCONN = 30;
export const SO_MARK = 36;
export const SO_NETNS_COOKIE = 71;

/** linux/in.h, linux/netfilter_ipv4.h */
export const SOL_IP = 0;
export const IP_FREEBIND = 15;
export const IP_TRANSPARENT = 19;
export const IP_BIND_ADDRESS_NO_PORT = 24;
export const SO_ORIGINAL_DST = 80;

/** linux/in6.h, linux/netfilter_ipv6/ip6_tables.h */
export const SOL_IPV6 = 41;
export const IPV6_V6ONLY = 26;
export const IPV6_TRANSPARENT = 75;
export const IPV6_FREEBIND = 78;
export const IP6T_SO_ORIGINAL_DST = 80;

/** linux/tcp.h */
export const SOL_TCP = 6;
export const TCP_NODELAY = 1;
export const TCP_KEEPIDLE = 4;
export const TCP_KEEPINTVL = 5;
export const TCP_KEEPCNT = 6;
export const TCP_USER_TIMEOUT = 18;

/** linux/eventpoll.h */
export const EPOLL_CLOEXEC = 0x80000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;
export const EPOLLIN = 0x1;
export const EPOLLPRI = 0x2;
export const EPOLLOUT = 0x4;
export const EPOLLERR = 0x8;
export const EPOLLHUP = 0x10;
export const EPOLLRDHUP = 0x2000;
/** 1 << 31, as the signed number that fits an int. */
export const EPOLLET = -0x80000000;

/** sys/eventfd.h */
export const EFD_NONBLOCK = 0x800;
export const EFD_CLOEXEC = 0x80000;

/** fcntl.h */
export const F_DUPFD_CLOEXEC = 1030;
export const O_RDONLY = 0;
export const O_CLOEXEC = 0x80000;

/** linux/stat.h, fcntl.h */
export const AT_EMPTY_PATH = 0x1000;
export const STATX_INO = 0x100;

/** sched.h */
export const CLONE_NEWNET = 0x40000000;

/** sys/resource.h */
export const RLIMIT_NOFILE = 7;

/** signal.h */
export const SIGPIPE = 13;
export const SIG_IGN = 1n;
