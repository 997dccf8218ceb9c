//! A choice of network in the words of each MPI, of UCX, libfabric and NCCL.
//!
//! Must not decide anything. Where the words come from:
//! Open MPI and PRRTE: `ompi_info --all` of 4.1.4 and 5.0.11, `prte_info --all` of 3.0;
//! Intel MPI: Developer Reference for Linux, "OFI-capable Network Fabrics Control", and Developer Guide,
//! "OFI Providers Support"; UCX: its FAQ and `ucx_info -f`; libfabric: fi_tcp(7);
//! NCCL: its user guide, "Environment Variables".

use super::network::Network;
use super::rdma::{Kind, Rdma};
use crate::config::variables::*;
use crate::plan::{Family, Wish};

/// Every variable that is wished for, or that stands against a wish where somebody set it.
pub const NAMES: [&str; 26] = [
    OMPI_BTL_TCP_IF_INCLUDE,
    OMPI_BTL_TCP_IF_EXCLUDE,
    OMPI_OOB_TCP_IF_INCLUDE,
    OMPI_OOB_TCP_IF_EXCLUDE,
    OMPI_OOB_TCP_INCLUDE,
    OMPI_OOB_TCP_EXCLUDE,
    PRTE_IF_INCLUDE,
    PRTE_IF_EXCLUDE,
    PRTE_OOB_TCP_IF_INCLUDE,
    PRTE_OOB_TCP_IF_EXCLUDE,
    OMPI_PML,
    OMPI_BTL,
    OMPI_MTL,
    OMPI_PML_UCX_DEVICES,
    OMPI_COMMON_UCX_DEVICES,
    UCX_NET_DEVICES,
    FI_PROVIDER,
    FI_TCP_IFACE,
    MPICH_OFI_PROVIDER,
    I_MPI_OFI_PROVIDER,
    NCCL_SOCKET_IFNAME,
    NCCL_IB_HCA,
    NCCL_IB_DISABLE,
    NCCL_IB_GID_INDEX,
    NCCL_NET,
    NCCL_IB_ADDR_RANGE,
];

/// Of what the words depend on beside the choice.
pub(super) struct Job<'a> {
    pub(super) family: Family,
    /// Over what the peers are reached, where known.
    pub(super) network: Option<&'a Network>,
    /// Whether some host has GPUs: only then NCCL, or RCCL, matters.
    pub(super) gpus: bool,
}

fn wish(name: &'static str, rivals: &'static [&'static str], value: &str, reason: &str) -> Wish {
    Wish { name, rivals, value: value.to_owned(), reason: reason.to_owned() }
}

impl Job<'_> {
    const fn is_open_mpi(&self) -> bool {
        matches!(self.family, Family::OpenMpi4 | Family::OpenMpi5)
    }

    /// Only the interfaces: what transports are used stays open.
    pub(super) fn interfaces(&self) -> Vec<Wish> {
        let Some(network) = self.network else { return Vec::new() };
        let mut wishes = Vec::new();
        let peers = "the peers are reachable over it";
        if let (true, Some(include)) = (self.is_open_mpi(), network.include()) {
            let (daemons, rivals): (_, &[&str]) = match self.family {
                Family::OpenMpi5 => (
                    PRTE_IF_INCLUDE,
                    &[PRTE_IF_EXCLUDE, PRTE_OOB_TCP_IF_INCLUDE, PRTE_OOB_TCP_IF_EXCLUDE],
                ),
                _ => (
                    OMPI_OOB_TCP_IF_INCLUDE,
                    &[OMPI_OOB_TCP_IF_EXCLUDE, OMPI_OOB_TCP_INCLUDE, OMPI_OOB_TCP_EXCLUDE],
                ),
            };
            wishes.push(wish(daemons, rivals, &include, peers));
            wishes.push(wish(OMPI_BTL_TCP_IF_INCLUDE, &[OMPI_BTL_TCP_IF_EXCLUDE], &include, peers));
        }
        if let (false, Some(name)) = (self.is_open_mpi(), network.one()) {
            wishes.push(wish(FI_TCP_IFACE, &[], name, peers));
        }
        if let (true, Some(names)) = (self.gpus, network.names()) {
            // A name without `=` is only the beginning of one.
            wishes.push(wish(NCCL_SOCKET_IFNAME, &[], &format!("={names}"), peers));
        }
        wishes
    }

    /// TCP only; `switched_off`: there is RDMA that must not be found.
    pub(super) fn tcp(&self, switched_off: bool) -> Vec<Wish> {
        let mut wishes = self.interfaces();
        let why = "TCP is what all hosts can use";
        if let Some(names) = self.network.and_then(Network::names) {
            wishes.push(wish(UCX_NET_DEVICES, &[], &names, "UCX takes no other device"));
        }
        match self.family {
            Family::OpenMpi4 | Family::OpenMpi5 if switched_off => {
                wishes.push(wish(OMPI_PML, &[OMPI_MTL], "ob1", why));
                // Shared memory and copies between GPUs stay; unknown names do no harm.
                wishes.push(wish(OMPI_BTL, &[], "^openib,uct,ofi,usnic", why));
            }
            Family::OpenMpi4 | Family::OpenMpi5 => {}
            Family::Mpich => {
                wishes.push(wish(FI_PROVIDER, &[MPICH_OFI_PROVIDER], "tcp", why));
            }
            Family::IntelMpi => {
                wishes.push(wish(I_MPI_OFI_PROVIDER, &[FI_PROVIDER], "tcp", why));
            }
        }
        if self.gpus && switched_off {
            wishes.push(wish(NCCL_IB_DISABLE, &[NCCL_NET, NCCL_IB_HCA], "1", why));
        }
        wishes
    }

    /// RDMA. The MPIs find it by themselves where they were built for it; `forced` leaves them no
    /// other way, so that one that was not fails and does not crawl.
    pub(super) fn rdma(&self, rdma: &Rdma, forced: bool) -> Vec<Wish> {
        let mut wishes = self.interfaces();
        let all = "all hosts can use it";
        let verbs = matches!(rdma.kind, Kind::InfiniBand | Kind::Roce);
        if verbs {
            let mut devices = rdma.ports.join(",");
            // A UCX without verbs still finds a way.
            if let (false, Some(names)) = (forced, self.network.and_then(Network::names)) {
                devices = format!("{devices},{names}");
            }
            wishes.push(wish(UCX_NET_DEVICES, &[], &devices, all));
        }
        if self.is_open_mpi() && verbs && !rdma.mlx {
            let why = "Open MPI takes UCX by itself for Mellanox' devices only";
            wishes.push(wish(OMPI_PML_UCX_DEVICES, &[OMPI_COMMON_UCX_DEVICES], "any", why));
        }
        if forced {
            wishes.extend(self.forced(rdma));
        }
        if self.gpus && verbs {
            let hcas = format!("={}", rdma.ports.join(","));
            wishes.push(wish(NCCL_IB_HCA, &[NCCL_IB_DISABLE], &hcas, all));
            if let Some(gid) = rdma.gid {
                let why = "the RoCE v2 address has this index on every host";
                let rivals = &[NCCL_IB_DISABLE, NCCL_IB_ADDR_RANGE];
                wishes.push(wish(NCCL_IB_GID_INDEX, rivals, &gid.to_string(), why));
            }
        }
        wishes
    }

    fn forced(&self, rdma: &Rdma) -> Vec<Wish> {
        let asked = "--fabric rdma";
        let provider = match (rdma.kind, self.family) {
            (Kind::Efa, _) => Some("efa"),
            (Kind::OmniPath, Family::OpenMpi4) => None,
            (Kind::OmniPath, _) => Some("psm2"),
            (Kind::InfiniBand | Kind::Roce, Family::IntelMpi) if rdma.mlx => Some("mlx"),
            (Kind::InfiniBand | Kind::Roce, Family::IntelMpi) => Some("verbs"),
            (Kind::InfiniBand | Kind::Roce, _) => None,
        };
        let mut wishes = Vec::new();
        match self.family {
            Family::OpenMpi4 | Family::OpenMpi5 => {
                let pml = match rdma.kind {
                    Kind::InfiniBand | Kind::Roce => "ucx",
                    Kind::OmniPath | Kind::Efa => "cm",
                };
                wishes.push(wish(OMPI_PML, &[OMPI_BTL, OMPI_MTL], pml, asked));
                wishes.extend(provider.map(|it| wish(FI_PROVIDER, &[], it, asked)));
            }
            Family::Mpich => {
                let rivals = &[MPICH_OFI_PROVIDER];
                wishes.extend(provider.map(|it| wish(FI_PROVIDER, rivals, it, asked)));
            }
            Family::IntelMpi => {
                let rivals = &[FI_PROVIDER];
                wishes.extend(provider.map(|it| wish(I_MPI_OFI_PROVIDER, rivals, it, asked)));
            }
        }
        wishes
    }

    /// What could not be said because the interface has another name on each host.
    pub(super) fn left_out(&self, network: &Network) -> Option<String> {
        let (name, why) = if self.is_open_mpi() {
            if network.include().is_some() {
                return None;
            }
            (OMPI_BTL_TCP_IF_INCLUDE, "their networks are too many, or not IPv4")
        } else {
            (FI_TCP_IFACE, "libfabric takes one name for all")
        };
        Some(format!(
            "{name} is not set: the interface has another name on each host, and {why}; where hosts \
             have several interfaces, set it in each pod"
        ))
    }
}
